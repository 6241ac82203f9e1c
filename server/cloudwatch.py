"""Metrics put into CloudWatch from a process that serves: in a thread, and never in a request's way."""

from __future__ import annotations

from typing import Any


class CloudWatch:
    """One client, made at the first put. `region` None leaves it to the environment."""

    def __init__(self, region: str | None) -> None:
        self._region = region
        self._client: Any = None

    def put(self, namespace: str, data: list[dict[str, Any]]) -> str | None:
        """What went wrong, or None. Blocks."""
        # Imported here: only where metrics are published is AWS needed.
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            self._client = self._client or self._open()
            self._client.put_metric_data(Namespace=namespace, MetricData=data)
        except ClientError as exc:
            return str(exc.response.get("Error", {}).get("Code", "ClientError"))
        except BotoCoreError as exc:
            return type(exc).__name__
        return None

    def _open(self) -> Any:
        import boto3
        from botocore.config import Config

        # One try more: what comes late is worth less than what comes next.
        config = Config(
            connect_timeout=2, read_timeout=3, retries={"mode": "standard", "total_max_attempts": 2}
        )
        return boto3.session.Session(region_name=self._region).client("cloudwatch", config=config)

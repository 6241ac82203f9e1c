"""Settings of alarms: where they go, and what is slow or too much."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, StringConstraints, model_validator

from fleet.stack.settings_base import Group, wanted, when

TopicArn = Annotated[
    str,
    StringConstraints(pattern=r"^arn:aws[a-z-]*:sns:[a-z0-9-]+:\d{12}:[A-Za-z0-9_-]{1,256}$"),
    wanted("the ARN of a topic, arn:aws:sns:REGION:ACCOUNT:NAME"),
]
Email = Annotated[
    str,
    StringConstraints(pattern=r"^[^@\s]+@[^@\s]+\.[^@\s.]{2,}$", max_length=254),
    wanted("an address such as on-call@example.com"),
]


class Alarms(Group):
    """Without a destination alarms change colour on the dashboard, and tell nobody."""

    topic_arn: TopicArn | None = Field(
        default=None,
        description="SNS topic that alarms are told to. CloudWatch must be allowed to publish there.",
        json_schema_extra=when("Where a topic pages the on-call engineer already."),
    )
    email: Email | None = Field(
        default=None,
        description="Address that alarms are mailed to, through an encrypted topic of the stack's own. Its "
        "owner must first confirm the mail that AWS sends.",
        json_schema_extra=when("Where there is no such topic, and mail is read fast enough."),
    )
    first_token_seconds: float = Field(
        default=10.0,
        gt=0,
        le=600,
        description="Time to the first token that 95 of 100 streams should keep below.",
        json_schema_extra=when("Raise it for long prompts, lower it to what clients expect."),
    )
    errors_percent: float = Field(
        default=1.0,
        gt=0,
        le=100,
        description="Share of requests that may end in a 5xx before it is an alarm.",
        json_schema_extra=when("Raise it where shedding under overload is wanted."),
    )

    @model_validator(mode="after")
    def _one_destination(self) -> Self:
        if self.topic_arn is not None and self.email is not None:
            raise ValueError("topicArn and email are both set: keep one, and subscribe the other to it")
        return self

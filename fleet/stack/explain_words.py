"""Settings as a person reads them: the page docs/settings.md, and the same in a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from fleet.stack.explain import TIER, Setting, all_settings, words
from fleet.stack.settings_base import NAMESPACE

_PAGE = f"""# Settings

Every setting of a stack. They live in `Pulumi.<stack>.yaml` below `config:`, with `{NAMESPACE}:` before the
first part. This page is made from the models that check them: `goldenfleet config explain --markdown` writes
it, `goldenfleet config explain --stack prod` shows what a stack has, `goldenfleet config check --stack prod`
refuses what cannot work, each mistake in a line that names the setting and the number to change.

Unknown keys are errors, and required settings have no default. `{TIER}` stands for a tier's name, or for that
of whatever else there is a list of: `tiers` is a list, each tier of it like this:

```yaml
{NAMESPACE}:tiers:
  - name: gateway
    role: gateway
    recipe: gateway-cpu
    channel: prod
    capacity: {{min: 3, desired: 3, max: 12}}
    purchase:
      instanceTypes: [c7i.large, c6i.large, m7i.large]
      onDemandBase: 2
  - name: llama
    role: model
    engine: vllm
    recipe: model-gpu-vllm
    channel: prod
    capacity: {{min: 2, desired: 4, max: 24}}
    purchase:
      requirements:
        vcpus: {{min: 4, max: 16}}
        memoryGib: {{min: 16}}
        gpus: {{min: 1, max: 1}}
        gpuMemoryGib: {{min: 22}}
      onDemandBase: 1
```

`pulumi config set --path '{NAMESPACE}:tiers[1].capacity.max' 30` changes one of them.
"""


def page() -> str:
    """docs/settings.md."""
    parts = [_PAGE]
    for group, settings in _grouped():
        parts += [f"## {group}\n", *_above(group), _table(settings), ""]
    return "\n".join(parts).rstrip() + "\n"


def describe(values: Mapping[str, str] | None = None) -> str:
    """For a terminal; `values` are a stack's, by path."""
    lines: list[str] = []
    for setting in all_settings():
        lines += [f"{setting.path}{_of(setting)}", f"    {setting.description}"]
        if not setting.is_group:
            now = f"; here {values[setting.path]}" if values and setting.path in values else ""
            lines.append(f"    {setting.kind}; {_default(setting)}{now}")
        lines += [f"    Change it: {setting.when}", ""]
    return "\n".join(lines).rstrip()


def _grouped() -> Iterator[tuple[str, Sequence[Setting]]]:
    """A group's settings stand together, whichever role's they are."""
    groups: dict[str, list[Setting]] = {}
    for setting in sorted((s for s in all_settings() if not s.is_group), key=lambda s: ":" in s.group):
        groups.setdefault(setting.group, []).append(setting)
    yield from groups.items()


def _above(group: str) -> list[str]:
    return [f"{s.description} {s.when}\n" for s in all_settings() if s.is_group and s.path == group]


def _table(settings: Sequence[Setting]) -> str:
    rows = [
        f"| `{setting.path.rpartition('.')[2].removeprefix(f'{NAMESPACE}:')}`{_of(setting)} | {setting.kind} "
        f"| {_default(setting)} | {setting.description} | {setting.when} |"
        for setting in settings
    ]
    return "\n".join(
        ["| setting | type | default | what it is | when to change it |", "|---|---|---|---|---|", *rows]
    )


def _default(setting: Setting) -> str:
    return "required" if setting.required else f"by default {words(setting.default)}"


def _of(setting: Setting) -> str:
    return f" ({', '.join(setting.roles)} tiers)" if setting.roles else ""

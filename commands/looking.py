"""``status``, ``doctor``, ``audit``, ``config`` and ``env``."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import closing, nullcontext
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING

import click

import settings as configuration
from commands.moments import Moment
from commands.progress import busy
from commands.shown import audit_text, ceiling_text, plain, print_json, say, status_text
from errors import EXIT_CONFIGURATION, EXIT_FAILED, EXIT_OK, EXIT_UNREACHABLE, ConfigurationError, UsageError
from settings import without_password

if TYPE_CHECKING:
    from commands.findings import Finding


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def status(as_json: bool) -> int:
    """Show each part with what it answered to a real request."""
    from commands.probes import Probes
    from inference.calibration import current

    loaded = configuration.load().settings
    with Probes(loaded) as probes, busy("asking the parts"):
        parts = probes.all()
        calibration = probes.calibration() if parts["redis"].ok else None
    if as_json:
        print_json(
            {
                "parts": {
                    name: {"ok": state.ok, "detail": state.detail, "address": state.address}
                    for name, state in parts.items()
                },
                "calibration": calibration.to_json() if calibration else None,
                "calibration_counts": current(calibration, loaded.triton) is not None,
            }
        )
    else:
        click.echo(status_text(parts))
        if parts["redis"].ok:
            click.echo(ceiling_text(calibration, counts=current(calibration, loaded.triton) is not None))
    return EXIT_OK if all(state.ok for state in parts.values()) else EXIT_UNREACHABLE


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def doctor(as_json: bool) -> int:
    """Check what can go wrong, before the start and while all runs, and say the remedy.

    Exit codes: 0 nothing is wrong (there may be warnings), 1 something is, 4 the settings cannot be read.
    """
    from commands.doctor import examine
    from commands.findings import Finding

    code, found = EXIT_OK, list[Finding]()

    def findings() -> Iterator[Finding]:
        nonlocal code
        try:
            loaded = configuration.load()
        except ConfigurationError as error:
            code = EXIT_CONFIGURATION
            yield Finding("wrong", "settings", str(error))
            return
        yield from examine(loaded)

    with busy("checking"):
        for finding in findings():
            found.append(finding)
            if not as_json:
                say(plain(f"{finding.state:<7}  {finding.name:<16}  {finding.detail}"))
    wrong, warnings = (sum(finding.state == state for finding in found) for state in ("wrong", "warning"))
    if as_json:
        print_json({"ok": not wrong, "checks": [asdict(finding) for finding in found]})
    else:
        say(f"{wrong or 'nothing'} wrong, {warnings} warnings")
    return code or (EXIT_FAILED if wrong else EXIT_OK)


@click.command()
@click.option("--deep", is_flag=True, help="Compare with what the store holds and finds, and with the sources.")
@click.option(
    "--since",
    type=Moment(),
    help="With --deep: captured at or after [24h before the end]; with --rebuild: where polls begin again.",
)
@click.option("--until", type=Moment(), help="With --deep: captured at or before [now].")
@click.option(
    "--repair",
    is_flag=True,
    help="With --deep: queue what is missing, not searchable or was never seen, delete what is forgotten.",
)
@click.option("--rebuild", is_flag=True, help="Make a lost or older ledger whole again from the store and the sources.")
@click.option("--dry-run", is_flag=True, help="With --rebuild: only say how much it would look at, and how long.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def audit(
    deep: bool,
    since: datetime | None,
    until: datetime | None,
    repair: bool,
    rebuild: bool,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Show where every image is; exit 1 when one is nowhere, or when a deep look finds something wrong."""
    if rebuild:
        if deep or repair or until:
            raise UsageError("--rebuild is something else than a deep audit: leave out --deep, --repair and --until")
        return rebuilding_audit(since, dry_run, as_json)
    if dry_run:
        raise UsageError("--dry-run is for --rebuild: add it")
    if not deep:
        if since or until or repair:
            raise UsageError("--since, --until and --repair are for a deep audit: add --deep")
        return plain_audit(as_json)
    from commands.deep import deep_audit, deep_text, range_of
    from job_system.stillness import maintained
    from ledger import Ledger

    begin, end = range_of(since, until)
    loaded = configuration.require(configuration.load().settings, "redis", "weaviate")
    with closing(Ledger(loaded.jobs)) as ledger, maintained(ledger) if repair else nullcontext():
        findings, repaired = deep_audit(loaded, ledger, begin, end, repair)
        counts = ledger.audit()
    if as_json:
        repair_object = {"repair": repaired.to_json()} if repaired is not None else {}
        print_json({**counts.to_json(), "deep": {**findings.to_json(), **repair_object}})
    else:
        click.echo(audit_text(counts))
        click.echo(deep_text(findings, repaired, begin, end))
    if counts.difference or not findings.clean:
        return EXIT_FAILED
    return EXIT_UNREACHABLE if findings.unread else EXIT_OK


def rebuilding_audit(since: datetime | None, dry_run: bool, as_json: bool) -> int:
    """Rebuild the ledger, and show its numbers. The exit code."""
    from commands.rebuilding import expected, expected_text, rebuild, rebuilt_text
    from ledger import Ledger

    loaded = configuration.require(configuration.load().settings, "redis", "weaviate")
    with closing(Ledger(loaded.jobs)) as ledger:
        if dry_run:
            told = expected(loaded, ledger)
            if as_json:
                print_json(told)
            else:
                click.echo(expected_text(told))
            return EXIT_OK
        rebuilt = rebuild(loaded, ledger, since)
        counts = ledger.audit()
    if as_json:
        print_json({**counts.to_json(), "rebuild": rebuilt.to_json()})
    else:
        click.echo(audit_text(counts))
        click.echo(rebuilt_text(rebuilt))
    return EXIT_OK if counts.difference == 0 and rebuilt.whole else EXIT_FAILED


def plain_audit(as_json: bool) -> int:
    """The ledger's own numbers. The exit code."""
    from ledger import Ledger

    loaded = configuration.require(configuration.load().settings, "redis")
    with closing(Ledger(loaded.jobs)) as ledger:
        counts = ledger.audit()
    if as_json:
        print_json(counts.to_json())
    else:
        click.echo(audit_text(counts))
    return EXIT_OK if counts.difference == 0 else EXIT_FAILED


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--markdown", is_flag=True, hidden=True, help="Print the README's table of settings.")
def config(as_json: bool, markdown: bool) -> None:
    """Show every setting, its value and where it came from; secrets hidden."""
    if markdown:
        click.echo(settings_table())
        return
    loaded = configuration.load()
    rows = []
    for entry in configuration.entries():
        value = getattr(getattr(loaded.settings, entry.section), entry.key)
        text = (
            ",".join(str(item) for item in value) if isinstance(value, tuple) else "" if value is None else str(value)
        )
        if entry.secret and text:
            text = without_password(text) if "://" in text else "***"
        rows.append((entry, text, loaded.origins[entry.env]))
    if as_json:
        print_json({entry.env: {"value": text, "from": origin} for entry, text, origin in rows})
        return
    for entry, text, origin in rows:
        click.echo(f"{entry.env:<34} {text or '-':<48} {origin:<14} [{entry.section}] {entry.key}: {entry.help}")


def settings_table() -> str:
    """The README's table, in Markdown."""
    lines = ["| Variable | `weavloader.toml` | Default | Meaning |", "|---|---|---|---|"]
    for entry in configuration.entries():
        default = f"`{entry.default}`" if entry.default else ""
        lines.append(f"| `{entry.env}` | `[{entry.section}] {entry.key}` | {default} | {entry.help} |")
    return "\n".join(lines)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead, name by name.")
def env(as_json: bool) -> None:
    """Print the exports for redis-cli, celery and other tools: eval "$(python main.py env)"."""
    from ledger import parse_broker_url

    loaded = configuration.require(configuration.load().settings, "redis")
    address = parse_broker_url(loaded.jobs.broker_url)
    exports = {
        "CELERY_BROKER_URL": loaded.jobs.broker_url,
        "CELERY_RESULT_BACKEND": loaded.jobs.result_backend or loaded.jobs.broker_url,
        "REDISCLI_AUTH": address.password,
    }
    if not address.master_name:  # which server is the master, redis-cli must ask the sentinels itself
        host, port = address.hosts[0]
        exports |= {"REDIS_URL": loaded.jobs.broker_url, "REDIS_HOST": host, "REDIS_PORT": str(port)}
    if loaded.triton.host:
        exports |= {"TRITON_HOST": loaded.triton.host, "TRITON_PORT": str(loaded.triton.port)}
    if loaded.weaviate.host:
        exports |= {
            "WEAVIATE_HOST": loaded.weaviate.host,
            "WEAVIATE_PORT": str(loaded.weaviate.http_port),
            "WEAVIATE_GRPC_PORT": str(loaded.weaviate.grpc_port),
            "WEAVIATE_API_KEY": loaded.weaviate.api_key,
        }
    exports = {name: value for name, value in exports.items() if value}
    if as_json:
        print_json(exports)
        return
    for name, value in exports.items():
        click.echo(f"export {name}={shlex.quote(value)}")
    if address.master_name:
        host, port = address.hosts[0]
        click.echo(f"# redis-cli -h {host} -p {port} SENTINEL get-master-addr-by-name {address.master_name}")
    else:
        click.echo('# redis-cli -u "$REDIS_URL" LLEN image_processing')


COMMANDS = (status, doctor, audit, config, env)

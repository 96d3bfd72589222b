"""What is wrong, and who is told: ``alerts``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Final

import typer

from analytics.command_line import (
    DEFAULT_URL,
    Json,
    Token,
    Url,
    example,
    moment,
    print_json,
    seconds,
    show,
    width,
)
from server.commands.asking import client

if TYPE_CHECKING:
    from server.api.client import Client

commands = typer.Typer(name="alerts", invoke_without_command=True)

EXIT_NOT_DELIVERED: Final = 69

Since = Annotated[
    str | None,
    typer.Option("--since", metavar="TIME", help="Those that were over since then, too: 7d, 09:45."),
]
Note = Annotated[str, typer.Option("--note", metavar="TEXT", help="For those who come later.")]
By = Annotated[str, typer.Option("--by", metavar="NAME", help="Who it was. [default: who asks]")]


@commands.callback(
    epilog=example(
        "pathgrade alerts", "pathgrade alerts --since 7d", "pathgrade alerts --json | jq '.open[].text'"
    )
)
def alerts(
    context: typer.Context,
    *,
    since: Since = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    json: Json = False,
) -> None:
    """List open alerts, the worst first: one for each cause, however many paths are bad."""
    from server.pages import alert_terminal

    if context.invoked_subcommand:
        return None
    found = client(url, token).alerts(moment(since, "--since"))
    return print_json(found) if json else show(alert_terminal.listed(found, width()))


@commands.command("ack", epilog=example("pathgrade alerts ack 3f9c27b1a0de --note 'provider called'"))
def ack(
    alert: Annotated[str, typer.Argument(metavar="ID", help="Of an open alert, or how it begins.")],
    *,
    note: Note = "",
    by: By = "",
    url: Url = DEFAULT_URL,
    token: Token = None,
    json: Json = False,
) -> None:
    """Say that you have seen an alert; receivers are told so. It stays open until its cause is gone."""
    from server.api.alert_door import AckAsk

    server = client(url, token)
    seen = server.acknowledge(_whole(server, alert), AckAsk(by=by, note=note))
    return print_json(seen) if json else print(f"seen by {seen.acked_by}: {seen.title} ({seen.id})")


@commands.command(
    "silence",
    epilog=example(
        "pathgrade alerts silence --where hotel --for 2h --note 'line is replaced'",
        "pathgrade alerts silence --id 3f9c27b1a0de --for 30m",
        "pathgrade alerts silence --agent 'office-*' --for 1d",
    ),
)
def silence(
    *,
    span: Annotated[str, typer.Option("--for", metavar="TIME", help="For how long: 30m, 2h, 1d.")],
    id_: Annotated[str, typer.Option("--id", metavar="ID", help="This alert.")] = "",
    rule: Annotated[
        str, typer.Option(metavar="NAME", help="Of this rule: cause, alone, agents, disk ...")
    ] = "",
    kind: Annotated[str, typer.Option(metavar="KIND", help="host, uplink, region, relay, transit ...")] = "",
    where: Annotated[str, typer.Option(metavar="NAME", help="The site, agent or service at fault.")] = "",
    profile: Annotated[str, typer.Option(metavar="NAME", help="Of this application profile.")] = "",
    agent: Annotated[str, typer.Option(metavar="NAME", help="Concerning this agent.")] = "",
    note: Note = "",
    by: By = "",
    url: Url = DEFAULT_URL,
    token: Token = None,
    json: Json = False,
) -> None:
    """Keep receivers from being told of some alerts for a while. They are still listed.

    What is named must all fit; * stands for any text. An alert that is still open when the silence
    ends is told then.
    """
    from server.alerts.model import Matcher
    from server.api.alert_door import SilenceAsk
    from server.pages import alert_words

    until_us = time.time_ns() // 1_000 + seconds(span, "--for") * 1_000_000
    matcher = Matcher(id=id_, rule=rule, kind=kind, where=where, profile=profile, agent=agent)
    made = client(url, token).silence(SilenceAsk(matcher=matcher, until_us=until_us, by=by, note=note))
    return print_json(made) if json else print(alert_words.silence_words(made))


@commands.command("unsilence", epilog=example("pathgrade alerts unsilence 9d21c4f0"))
def unsilence(
    silence_id: Annotated[str, typer.Argument(metavar="ID", help="Of a silence.")],
    *,
    url: Url = DEFAULT_URL,
    token: Token = None,
    json: Json = False,
) -> None:
    """End a silence. Open alerts that it kept quiet are told within seconds."""
    client(url, token).unsilence(silence_id)
    return print_json({"ended": silence_id}) if json else print(f"ended: silence {silence_id}")


@commands.command("receivers", epilog=example("pathgrade alerts receivers"))
def receivers(*, url: Url = DEFAULT_URL, token: Token = None, json: Json = False) -> None:
    """List who is told of alerts, what waits for them, and what they said last."""
    from server.pages import alert_terminal

    found = client(url, token).receivers()
    return print_json(found) if json else show(alert_terminal.receivers(found, width()))


@commands.command("test", epilog=example("pathgrade alerts test oncall"))
def try_out(
    receiver: Annotated[str, typer.Argument(metavar="RECEIVER", help="As named in the receivers file.")],
    *,
    url: Url = DEFAULT_URL,
    token: Token = None,
    json: Json = False,
) -> None:
    """Send a receiver a test alert now, and say what it answered. Exits with 69 if it did not take it."""
    made = client(url, token).test_receiver(receiver)
    if json:
        print_json(made)
    elif made.delivered:
        print(f"delivered to {receiver} in {(made.took_us or 0) / 1e3:.0f} ms")
    else:
        print(f"not delivered: {made.error}")
    if not made.delivered:
        raise typer.Exit(EXIT_NOT_DELIVERED)


def _whole(server: Client, begun: str) -> str:
    """Complete an id from how it begins, where that names one open alert."""
    fits = [alert.id for alert in server.alerts(None).open if alert.id.startswith(begun)]
    return fits[0] if len(fits) == 1 else begun

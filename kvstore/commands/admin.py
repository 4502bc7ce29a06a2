"""The commands admin ...: what operators do to a cluster. What takes time goes on after the end."""

import time
from typing import Annotated, TypeAlias

import typer
from rich.table import Table

from kvstore.commands.arguments import JSONOption, URLArgument
from kvstore.commands.ask_mgmtd import (
    Answer,
    list_of,
    number_of,
    operate,
    options_of,
    rows_of,
    words_of,
)
from kvstore.commands.report import Report, reporting
from kvstore.options import ClientOptions

WAIT_INTERVAL_S = 0.5
"""Between two looks at what is under way."""
ROUNDS_MAX = 8
"""Plans of one rebalance that is waited for; each goes by what chains hold by then."""

NodeArgument: TypeAlias = Annotated[
    int, typer.Argument(metavar="NODE", help="The node's id.", show_default=False)
]
TargetArgument: TypeAlias = Annotated[
    int, typer.Argument(metavar="TARGET", help="The target's id.", show_default=False)
]
WaitOption: TypeAlias = Annotated[
    bool, typer.Option("--wait", help="Return when everything is moved, and show how far it is.")
]


def build() -> typer.Typer:
    """Return the group of commands."""
    app = typer.Typer(
        name="admin", help="Change a cluster: nodes, targets, chains.", no_args_is_help=True
    )
    app.command("create-chains")(create_chains)
    app.command("add-node")(add_node)
    app.command("drain-node")(drain_node)
    app.command("resume-node")(resume_node)
    app.command("remove-node")(remove_node)
    app.command("replace-target")(replace_target)
    app.command("remove-target")(remove_target)
    app.command("rebalance")(rebalance)
    app.command("move-slots")(move_slots)
    return app


def create_chains(
    url: URLArgument,
    replicas: Annotated[int, typer.Option(min=1, max=16, help="Targets of each chain.")] = 3,
    spares: Annotated[int, typer.Option(min=0, help="Targets to keep in no chain.")] = 0,
    slots: Annotated[int, typer.Option(min=1, help="Slots of the key space, a power of two.")] = (
        1024
    ),
    seed: Annotated[int, typer.Option(help="Another seed lays chains out differently.")] = 1,
    as_json: JSONOption = False,
) -> None:
    """Make the first chains of a cluster, of all targets that have joined.

    Examples:

    - `kvstore admin create-chains kv://mgmtd:7300 --replicas 3 --spares 2`
    """
    with reporting(as_json=as_json) as report:
        made = operate(
            options_of(url),
            "create_chains",
            replicas=replicas,
            spares=spares,
            slots=slots,
            seed=seed,
        )
        report.answer(made)
        report.say(f"chains: {words_of(made, 'chains')}, spares: {words_of(made, 'spares')}")


def add_node(
    url: URLArgument, node: NodeArgument, wait: WaitOption = False, as_json: JSONOption = False
) -> None:
    """Let chains use a node that has joined: it takes over its share of targets and slots.

    First start it: `kvstore storage --mgmtd ... --node NODE ...`. A node that is being drained goes
    back to work.

    Examples:

    - `kvstore admin add-node kv://mgmtd:7300 4 --wait`
    """
    with reporting(as_json=as_json) as report:
        options = options_of(url)
        found = node_of(report, options, node)
        if words_of(found, "state") in ("draining", "disabled"):
            operate(options, "resume_node", node=node)
        if words_of(found, "state") == "failed":
            report.fail(f"node {node} does not run: start it first")
        plan = operate(options, "rebalance", apply=True)
        finish(report, options, plan, wait)


def drain_node(
    url: URLArgument,
    node: NodeArgument,
    force: Annotated[
        bool, typer.Option("--force", help="Also where what it holds has no room elsewhere.")
    ] = False,
    wait: WaitOption = False,
    as_json: JSONOption = False,
) -> None:
    """Have other targets take over what a node holds; then it can be stopped and removed.

    Where there are no spares for that, some chains give their slots to others, and their targets
    take over. It is refused where those have no room; with --force targets in cache mode evict.

    Examples:

    - `kvstore admin drain-node kv://mgmtd:7300 3 --wait`
    """
    with reporting(as_json=as_json) as report:
        options = options_of(url)
        plan = operate(options, "drain_node", node=node, force=force)
        finish(report, options, plan, wait)
        while wait and number_of(plan, "left"):
            plan = operate(options, "drain_node", node=node, force=force)
            wait_for_replacements(report, options)


def resume_node(url: URLArgument, node: NodeArgument, as_json: JSONOption = False) -> None:
    """Take drain-node back.

    Examples:

    - `kvstore admin resume-node kv://mgmtd:7300 3`
    """
    with reporting(as_json=as_json) as report:
        report.answer(operate(options_of(url), "resume_node", node=node))
        report.say(f"node {node} stays")


def remove_node(url: URLArgument, node: NodeArgument, as_json: JSONOption = False) -> None:
    """Forget a node that is down and has no target in a chain.

    Examples:

    - `kvstore admin remove-node kv://mgmtd:7300 3`
    """
    with reporting(as_json=as_json) as report:
        report.answer(operate(options_of(url), "remove_node", node=node))
        report.say(f"node {node} is forgotten")


def replace_target(
    url: URLArgument,
    target: TargetArgument,
    by: Annotated[
        int | None,
        typer.Option(help="The spare that takes over; the best one unless given."),
    ] = None,
    wait: WaitOption = False,
    as_json: JSONOption = False,
) -> None:
    """Have a spare take over what a target holds.

    Examples:

    - `kvstore admin replace-target kv://mgmtd:7300 7 --by 12 --wait`
    """
    with reporting(as_json=as_json) as report:
        options = options_of(url)
        plan = operate(options, "replace_target", target=target, by=by)
        finish(report, options, plan, wait)


def remove_target(
    url: URLArgument,
    target: TargetArgument,
    drop: Annotated[
        bool, typer.Option("--drop", help="Do not look for another target in its place.")
    ] = False,
    as_json: JSONOption = False,
) -> None:
    """Take a target out of its chain, or forget a spare; never the last copy.

    Examples:

    - `kvstore admin remove-target kv://mgmtd:7300 7`
    """
    with reporting(as_json=as_json) as report:
        done = operate(options_of(url), "remove_target", target=target, drop=drop)
        report.answer(done)
        chain = words_of(done, "chain")
        report.say(f"target {target} leaves chain {chain}" if chain else f"target {target} is gone")


def rebalance(
    url: URLArgument,
    apply: Annotated[bool, typer.Option("--apply", help="Do it; else it is shown only.")] = False,
    wait: WaitOption = False,
    as_json: JSONOption = False,
) -> None:
    """Plan how targets and slots are spread evenly, and with --apply do it.

    Examples:

    - `kvstore admin rebalance kv://mgmtd:7300`
    - `kvstore admin rebalance kv://mgmtd:7300 --apply --wait`
    """
    with reporting(as_json=as_json) as report:
        options = options_of(url)
        plan = operate(options, "rebalance", apply=apply)
        report.show(plan_table(plan))
        if apply and wait:
            plan = balanced(report, options, plan)
        report.answer({**plan, "done": apply and wait})


def move_slots(
    url: URLArgument,
    gives: Annotated[int, typer.Argument(metavar="FROM", help="The chain that gives them.")],
    takes: Annotated[int, typer.Argument(metavar="TO", help="The chain that takes them.")],
    count: Annotated[int, typer.Option(min=1, help="How many slots.")] = 1,
    wait: WaitOption = False,
    as_json: JSONOption = False,
) -> None:
    """Have slots move from one chain to another, with what they hold.

    Examples:

    - `kvstore admin move-slots kv://mgmtd:7300 1 2 --count 64 --wait`
    """
    with reporting(as_json=as_json) as report:
        options = options_of(url)
        given = {"from": gives, "to": takes, "count": count}
        moved = operate(options, "move_slots", **given)
        if wait:
            wait_for_replacements(report, options)
        report.answer({**moved, "done": wait})
        report.say(f"{words_of(moved, 'slots')} slots move from chain {gives} to chain {takes}")


def node_of(report: Report, options: ClientOptions, node: int) -> Answer:
    """Return what mgmtd says of a node."""
    known = rows_of(operate(options, "status"), "nodes")
    found = next((row for row in known if number_of(row, "id") == node), None)
    if found is None:
        ids = ", ".join(words_of(row, "id") for row in known) or "none"
        report.fail(
            f"node {node} has not joined (there is {ids}): start it with `kvstore storage --node"
            f" {node} --mgmtd {','.join(map(str, options.addresses))} --target DIRECTORY`"
        )
    return found


def finish(report: Report, options: ClientOptions, plan: Answer, wait: bool) -> None:
    """Show a plan, and wait until it is done where that is wanted."""
    report.show(plan_table(plan))
    if wait:
        wait_for_replacements(report, options)
    report.answer({**plan, "done": wait})


def balanced(report: Report, options: ClientOptions, plan: Answer) -> Answer:
    """Wait, and go on where what has moved was not yet enough; return all that moved."""
    steps = ("replacements", "formed", "slot_moves")
    done: dict[str, list[object]] = {name: [] for name in steps}
    for _ in range(ROUNDS_MAX):
        for name in steps:
            done[name].extend(list_of(plan, name))
        wait_for_replacements(report, options)
        plan = operate(options, "rebalance", apply=True)
        if not any(list_of(plan, name) for name in steps):
            break
    return {**plan, **done}


def plan_table(plan: Answer) -> Table:
    """Return what a plan does."""
    table = Table("chain", "leaves", "joins", title="Replacements", title_justify="left")
    for row in rows_of(plan, "replacements"):
        table.add_row(words_of(row, "chain"), words_of(row, "leaves"), words_of(row, "joins"))
    for name, said in (("formed", "new chains"), ("slot_moves", "slots that move")):
        if rows_of(plan, name):
            table.add_row(said, str(len(rows_of(plan, name))), "")
    for chain in list_of(plan, "dissolved"):
        table.add_row(str(chain), "gives its slots away", "")
    return table


def wait_for_replacements(report: Report, options: ClientOptions) -> None:
    """Return when no target waits to be replaced any more, and no slot to be moved."""
    with report.progress() as progress:
        task = progress.add_task("moving", total=None, detail="")
        most = 0
        while True:
            status = operate(options, "status")
            targets, moves = rows_of(status, "targets"), rows_of(status, "slot_moves")
            left = sum(bool(row.get("leaving")) for row in targets) + len(moves)
            if not left:
                return
            most = max(most, left)
            done = sum(number_of(row, "resync_done") for row in targets)
            sent = sum(number_of(row, "objects") for row in moves)
            detail = f"{left} to go, {done:,} objects compared, {sent:,} moved"
            progress.update(task, total=most, completed=most - left, detail=detail)
            time.sleep(WAIT_INTERVAL_S)

"""Which datasets an update takes on, and how."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from lakeflow_local.errors import LakeflowError
from lakeflow_local.pipelines.graph import Kind
from lakeflow_local.pipelines.resolve import Node, Resolver

_RESET_ALLOWED = "pipelines.reset.allowed"


@dataclass(frozen=True)
class Selection:
    """What was asked of an update, by full names.

    Attributes:
        everything: all datasets are updated; else those of `refresh` and `full_refresh`.
        all_anew: all forget their rows and checkpoints.
        reset_checkpoint: datasets and flows whose checkpoints are forgotten, and whose rows are kept.
    """

    everything: bool = True
    all_anew: bool = False
    refresh: frozenset[str] = frozenset()
    full_refresh: frozenset[str] = frozenset()
    reset_checkpoint: frozenset[str] = frozenset()

    @classmethod
    def of(
        cls,
        resolver: Resolver,
        *,
        refresh: Collection[str],
        full_refresh: bool | Collection[str],
        reset_checkpoint: Collection[str],
    ) -> Selection:
        """The selection, its names found among the datasets of the pipeline.

        Raises:
            LakeflowError: a name is none of the pipeline's tables, or a table that must not be reset is named for it.
        """
        named = () if isinstance(full_refresh, bool) else full_refresh
        anew = frozenset(_table(resolver, name).full for name in named)
        for full in anew:
            node = resolver.nodes[full]
            if not _may_be_reset(node):
                raise LakeflowError(
                    f"{node.dataset.name} must not be refreshed in full: {_RESET_ALLOWED} is false; take it out of the "
                    "selection, or reset its checkpoint alone"
                )
        selected = frozenset(_table(resolver, name).full for name in refresh)
        return cls(
            everything=not selected and not anew,
            all_anew=full_refresh is True,
            refresh=selected,
            full_refresh=anew,
            reset_checkpoint=frozenset(_checkpointed(resolver, name) for name in reset_checkpoint),
        )

    def once_more(self) -> Selection:
        """What is taken on again, in the same update: nothing is forgotten a second time."""
        return replace(
            self, all_anew=False, refresh=self.refresh | self.full_refresh, full_refresh=frozenset(),
            reset_checkpoint=frozenset(),
        )  # fmt: skip

    def takes(self, node: Node) -> bool:
        return self.everything or node.full in self.refresh or node.full in self.full_refresh

    def asks_anew(self, node: Node) -> bool:
        return self.all_anew or node.full in self.full_refresh

    def anew(self, node: Node) -> bool:
        """Whether the dataset forgets its rows and checkpoints; a sink never does, its rows are not the pipeline's."""
        return self.asks_anew(node) and node.kind is Kind.STREAMING_TABLE and _may_be_reset(node)

    def spared(self, node: Node) -> bool:
        """Whether the dataset would forget its rows, but must not."""
        return self.asks_anew(node) and node.kind is Kind.STREAMING_TABLE and not _may_be_reset(node)


def _may_be_reset(node: Node) -> bool:
    return node.dataset.properties.get(_RESET_ALLOWED, "true").lower() != "false"


def _table(resolver: Resolver, name: str) -> Node:
    node = resolver.find(name)
    if node is None:
        raise LakeflowError(_unknown(resolver, name, "no dataset"))
    if node.is_view:
        raise LakeflowError(f"{name} is a view, which holds no rows to refresh; select the tables that read it")
    return node


def _checkpointed(resolver: Resolver, name: str) -> str:
    for node in resolver.nodes.values():
        if any(name.lower() in (flow.name.lower(), node.flow_name(flow)) for flow in node.flows):
            flow = next(f for f in node.flows if name.lower() in (f.name.lower(), node.flow_name(f)))
            return node.flow_name(flow)
    node = resolver.find(name)
    if node is None:
        raise LakeflowError(_unknown(resolver, name, "no dataset and no flow"))
    return node.full


def _unknown(resolver: Resolver, name: str, what: str) -> str:
    near = resolver.near(name)
    every = sorted(node.dataset.name for node in resolver.nodes.values() if not node.is_view)
    hint = f"did you mean {' or '.join(near)}?" if near else f"it has {', '.join(every[:8])}"
    return f"the pipeline has {what} {name}; {hint}"

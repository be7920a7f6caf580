"""One context manager that sees the attention of any PyTorch model, unmodified.

A `TorchDispatchMode` stands below the model and sees every attention kernel it calls; two global module hooks tell
which module is running. Nothing is asked of the model: no `output_attentions`, no attention implementation, no fork.
A `TorchFunctionMode` would lose the calls made inside `F.multi_head_attention_forward`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode

from attention_collapse.errors import ProbeError
from attention_collapse.probe.reduce import FusedCall, eager, fused, softmax_input
from attention_collapse.probe.statistics import Grouping, Reduced, SiteStats
from attention_collapse.probe.weights import eager_weights, fused_weights

aten = torch.ops.aten

FUSED = {
    getattr(aten, name).default
    for name in (
        "_scaled_dot_product_flash_attention_for_cpu",
        "_scaled_dot_product_flash_attention",
        "_scaled_dot_product_efficient_attention",
        "_scaled_dot_product_cudnn_attention",
        "_scaled_dot_product_fused_attention_overrideable",
    )
    if hasattr(aten, name)
}
SOFTMAX = {aten._softmax.default, aten._safe_softmax.default}
# One opaque kernel for a whole layer: nothing inside it can be seen.
OPAQUE = {aten._native_multi_head_attention.default, aten._transformer_encoder_layer_fwd.default}
# Under torch.inference_mode these arrive whole; decomposed, the kernels inside them come back to the mode.
COMPOSITE = {
    aten.scaled_dot_product_attention,
    aten._scaled_dot_product_attention_math,
    aten.softmax,
    aten.matmul,
    aten.einsum,
}
# The kernel whose second output is known to be the log-sum-exp of every query row, in float32.
RETURNS_LSE = {aten._scaled_dot_product_flash_attention_for_cpu.default}
ATTENTION_CLASS = re.compile("attention|attn", re.IGNORECASE)
HEAD_COUNTS = ("num_heads", "num_attention_heads", "n_heads", "heads")

Keys = Callable[[str, int, int], Tensor | None]
Rows = Callable[[str, int, int], Tensor | None]
Seen = tuple[Reduced, Tensor | None, Tensor | None]  # statistics, rows, weights


class _Tap(TorchDispatchMode):
    def __init__(self, probe: AttentionProbe) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.probe = probe

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.overloadpacket in COMPOSITE:
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        self.probe._before(func, args)
        result = func(*args, **kwargs)
        if func in FUSED:
            self.probe._fused(func, args, kwargs, result)
        return result


class AttentionProbe:
    """Stream statistics of every attention call made inside the `with` block.

    Parameters
    ----------
    model
        The module that will run; sites are named as in `model.named_modules()`.
    on_stats
        Called with a `SiteStats` after each attention call. Without it they collect in `self.stats`.
    keys
        `keys(site, batch, n_keys)` -> (batch or 1, n_keys) group numbers (see `GROUPS`), or None for no groups.
    rows
        `rows(site, batch, n_queries)` -> (row,) positions of the queries to reduce, None for all of them. The cost
        falls with the rows; a site with no rows is seen but yields no statistics.
    weights
        Keep the weights of those rows too, in `SiteStats.weights`: a number for every chosen row and key, so for few.
    allow_unseen
        Leave the block quietly although an attention module ran and yielded nothing.

    Raises
    ------
    ProbeError
        On leaving the block if a module that calls itself attention ran unseen, or if nothing was seen at all;
        inside it, if an opaque kernel hides a layer.

    Notes
    -----
    Attaches on enter and detaches on exit, also after an exception. The hooks are process-wide: run one forward
    pass at a time. `nn.MultiheadAttention`'s inference fast path, one opaque kernel, is off inside the block.

    Examples
    --------
    >>> layer, x = nn.MultiheadAttention(4, 2, batch_first=True), torch.zeros(1, 3, 4)  # equal tokens
    >>> with AttentionProbe(layer) as probe:
    ...     _ = layer(x, x, x)
    >>> round(probe.stats[0].entropy.exp().mean().item(), 4)  # uniform over 3 keys: ln 3
    3.0
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        on_stats: Callable[[SiteStats], None] | None = None,
        keys: Keys | None = None,
        rows: Rows | None = None,
        weights: bool = False,
        allow_unseen: bool = False,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise ProbeError(
                f"model is a {type(model).__name__}",
                expected="a torch.nn.Module",
                remedy="give the module itself; of a pipeline or processor, its model",
            )
        self.stats: list[SiteStats] = []
        self._names = {module: name for name, module in model.named_modules()}
        self._on_stats = on_stats or self.stats.append
        self._keys, self._rows, self._weights = keys, rows, weights
        self._allow_unseen = allow_unseen

    def __enter__(self) -> AttentionProbe:
        self._running: list[nn.Module] = []
        self._ran: set[str] = set()
        self._calls: dict[str, int] = {}
        self._pending: tuple[torch.Size, str, Seen | ProbeError | None] | None = None
        self._lost: set[str] = set()
        self._opaque: ProbeError | None = None
        self._fastpath = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)
        self._hooks = [
            register_module_forward_pre_hook(self._enter_module),
            register_module_forward_hook(self._leave_module, always_call=True),
        ]
        self._tap = _Tap(self)
        self._tap.__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: Any) -> None:
        self._tap.__exit__(kind, error, traceback)  # type: ignore[no-untyped-call]
        for hook in self._hooks:
            hook.remove()
        torch.backends.mha.set_fastpath_enabled(self._fastpath)
        self._pending = None
        if self._opaque is not None:  # TorchScript turns an error raised inside it into a RuntimeError
            raise self._opaque from None
        if error is None and not self._allow_unseen:
            self._require_all_seen()

    # -- which module is running ---------------------------------------------------------------

    def _enter_module(self, module: nn.Module, _args: Any) -> None:
        self._running.append(module)
        if module in self._names and ATTENTION_CLASS.search(type(module).__name__):
            self._ran.add(self._names[module])

    def _leave_module(self, _module: nn.Module, _args: Any, _output: Any) -> None:
        self._running.pop()  # returns None: a hook's return value would replace the module's output

    def _site(self) -> str:
        return next((self._names[module] for module in reversed(self._running) if module in self._names), "")

    # -- one call of any operator --------------------------------------------------------------

    def _fused(self, func: Any, args: Any, kwargs: Any, result: Any) -> None:
        site = self._site()
        arguments = {argument.name: argument.default_value for argument in func._schema.arguments}
        arguments.update(zip(arguments, args, strict=False))
        arguments.update(kwargs)
        call = FusedCall.of(arguments, result[1] if func in RETURNS_LSE else None).unpacked(*self._grouped_heads())
        batch, _, queries, _ = call.query.shape
        rows = self._chosen(site, batch, queries)
        if rows is not None and len(rows) == 0:
            self._count(site)
            return
        groups = self._groups(site, batch, call.key.shape[2], call.query.device)
        weights = fused_weights(call, rows) if self._weights else None
        self._emit(site, fused(call, groups, rows), rows, weights, "fused")

    def _eager(self, site: str, logits: Tensor) -> Seen | ProbeError | None:
        """Statistics, rows and weights of a softmax that may be attention; None where no row is wanted."""
        batch, _, queries, keys = logits.shape
        rows = self._chosen(site, batch, queries)
        if rows is not None and len(rows) == 0:
            return None
        try:
            reduced = softmax_input(logits, self._groups(site, batch, keys, logits.device), rows)
        except ProbeError as error:  # labels that do not fit: an error only if this is attention
            return error
        return reduced, rows, eager_weights(logits, rows) if self._weights else None

    def _before(self, func: Any, args: Any) -> None:
        """Look at an operator that is about to run."""
        if func in SOFTMAX and args[0].ndim >= 3 and args[1] in (-1, args[0].ndim - 1):
            # Reduced now, for the model may change its logits in place; kept until it is known to be attention.
            site = self._site()
            if self._pending is not None and self._pending[1] == site:
                self._lost.add(site)
            self._pending = args[0].shape, site, self._eager(site, eager(args[0], self._heads()))
        elif func is aten.bmm.default and self._pending is not None:
            # A softmax is attention once its output is multiplied with values; a classifier's never is.
            shape, site, seen = self._pending
            if args[0].shape[-1] == shape[-1] and args[0].numel() == shape.numel():
                self._pending = None
                if isinstance(seen, ProbeError):
                    raise seen
                if seen is None:
                    self._count(site)
                else:
                    self._emit(site, *seen, "eager")
        elif func in OPAQUE:
            self._opaque = ProbeError(
                f"{self._site() or 'the model'}: attention hidden inside {func}",
                expected="attention made of operators that can be seen",
                remedy="pass the eager model: a scripted or traced one keeps the opaque kernel",
            )
            raise self._opaque

    def _heads(self) -> int:
        for module in reversed(self._running):
            for name in HEAD_COUNTS:
                if isinstance(heads := getattr(module, name, None), int):
                    return heads
            if isinstance(heads := getattr(getattr(module, "config", None), "num_attention_heads", None), int):
                return heads
        return 1

    def _grouped_heads(self) -> tuple[int, int]:
        """(query heads, query heads per key head) of the module that runs, as the transformers library names them."""
        module = self._running[-1] if self._running else None
        heads = getattr(getattr(module, "config", None), "num_attention_heads", 0)
        groups = getattr(module, "num_key_value_groups", 1)
        return (heads, groups) if isinstance(heads, int) and isinstance(groups, int) else (0, 1)

    def _chosen(self, site: str, batch: int, queries: int) -> Tensor | None:
        return None if self._rows is None else self._rows(site, batch, queries)

    def _groups(self, site: str, batch: int, keys: int, device: torch.device) -> Grouping | None:
        labels = None if self._keys is None else self._keys(site, batch, keys)
        if labels is None:
            return None
        if labels.shape not in {(1, keys), (batch, keys)}:
            raise ProbeError(
                f"{site}: group labels of shape {tuple(labels.shape)} for {keys} keys and a batch of {batch}",
                expected=f"(1, {keys}) or ({batch}, {keys})",
                remedy="return None from keys(site, batch, n_keys) for a site whose keys are not grouped",
            )
        return Grouping(labels, device)

    def _count(self, site: str) -> int:
        self._calls[site] = self._calls.get(site, -1) + 1
        return self._calls[site]

    def _emit(self, site: str, reduced: Reduced, rows: Tensor | None, weights: Tensor | None, route: str) -> None:
        call, support = self._count(site), reduced.support
        blind = support == 0  # a padded query row sees no key: undefined, never 0
        mass, own = reduced.mass, reduced.group_entropy
        if mass is not None and own is not None:
            mass = mass.masked_fill(blind[..., None], torch.nan)
            own = own.masked_fill(blind[..., None], torch.nan)
        self._on_stats(
            SiteStats(
                site=site,
                call=call,
                entropy=reduced.entropy.masked_fill(blind, torch.nan),
                support=support,
                mass=mass,
                group_entropy=own,
                group_support=reduced.group_support,
                rows=rows,
                route=route,
                weights=weights,
            )
        )

    # -- loud about gaps -----------------------------------------------------------------------

    def unseen(self) -> list[str]:
        """Modules that call themselves attention, ran, and from which (or from whose parts) nothing was seen; and
        modules that took two softmaxes before one product, of which only the second was seen."""
        seen = self._calls.keys()
        silent = {
            name
            for name in self._ran
            if not any(s == name or s.startswith(name + ".") or name.startswith(s + ".") for s in seen)
        }
        return sorted(silent | (self._lost & seen))

    def _require_all_seen(self) -> None:
        unseen = self.unseen()
        if unseen or not self._calls:
            named = f"attention modules that ran unseen: {', '.join(unseen[:5])}" if unseen else "no attention call"
            raise ProbeError(
                f"{named}{f' and {len(unseen) - 5} more' if len(unseen) > 5 else ''}",
                expected="every attention module of the forward pass to be seen",
                remedy="run the eager model with PyTorch's own attention (no compiled or external kernels); "
                "pass allow_unseen=True to accept the gap",
            )

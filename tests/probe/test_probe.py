"""The probe against patterns computed by hand in float64 from the same queries and keys."""

import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from attention_collapse.errors import ProbeError
from attention_collapse.probe import IMAGE, OTHER, TEXT, AttentionProbe, reduce


class Attend(nn.Module):
    """One attention layer over given q, k, v, by PyTorch's fused kernel or by hand."""

    def __init__(self, heads: int, eager: bool = False, flat: bool = False) -> None:
        super().__init__()
        self.num_heads, self.eager, self.flat = heads, eager, flat

    def forward(self, q, k, v, mask=None, causal=False):
        if not self.eager:
            return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)
        logits = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        if causal:
            mask = torch.full(logits.shape[-2:], -torch.inf).triu(1)
        if mask is not None:
            logits = logits.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else logits + mask
        if self.flat:  # (batch · head, query, key), as BLIP and nn.MultiheadAttention with weights do
            return torch.bmm(logits.flatten(0, 1).softmax(-1), v.flatten(0, 1)).view_as(q)
        return logits.softmax(-1) @ v


def reference(q, k, mask=None, causal=False, groups=None):
    """Entropy, mass and support in float64, from the whole pattern."""
    logits = (q.double() @ k.double().transpose(-1, -2)) / math.sqrt(q.shape[-1])
    visible = torch.ones_like(logits, dtype=torch.bool)
    if causal:
        visible &= torch.ones(logits.shape[-2:], dtype=torch.bool).tril()
    if mask is not None:
        if mask.dtype == torch.bool:
            visible &= mask
        else:
            logits, visible = logits + mask.double(), visible & (mask > -1e3)
    p = logits.masked_fill(~visible, -torch.inf).softmax(-1).nan_to_num(0.0)
    entropy = torch.special.entr(p).sum(-1)
    mass = None if groups is None else torch.stack([(p * (groups == g)[:, None, None]).sum(-1) for g in range(3)], -1)
    return entropy, mass, visible[:, :1].sum(-1)


def group_reference(q, k, groups, mask=None, causal=False):
    """Entropy within each group and its visible keys, in float64: softmax over the group's own keys."""
    entropies, supports = [], []
    for g in range(3):
        own = (groups == g)[:, None, None].expand(len(q), 1, q.shape[2], -1)
        entropy, _, support = reference(q, k, own if mask is None else own & mask, causal)
        entropies.append(entropy.masked_fill((support == 0)[:, :, :], torch.nan))
        supports.append(support)
    return torch.stack(entropies, -1), torch.stack(supports, -1)


def random_inputs(queries=13, keys=13, batch=2, heads=4, width=16, sharpness=1.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn(batch, heads, n, width, generator=generator) for n in (queries, keys, keys))
    return q * sharpness, k, v


def padding(batch, keys, hidden):
    mask = torch.zeros(batch, 1, 1, keys)
    mask[0, ..., keys - hidden :] = -torch.inf
    return mask


def run(module, *args, groups=None, rows=None, grad="inference", **kwargs):
    seen = []
    context = {"inference": torch.inference_mode, "no_grad": torch.no_grad, "autograd": torch.enable_grad}[grad]
    keys = None if groups is None else (lambda site, batch, n: groups)
    chosen = None if rows is None else (lambda site, batch, n: torch.tensor(rows))
    with AttentionProbe(module, on_stats=seen.append, keys=keys, rows=chosen), context():
        module(*args, **kwargs)
    return seen


ROUTES = {"fused": {}, "eager": {"eager": True}, "eager flat": {"eager": True, "flat": True}}


@pytest.mark.parametrize("grad", ["inference", "no_grad", "autograd"])
@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("sharpness", [0.0, 1.0, 8.0])
@pytest.mark.parametrize("masking", ["none", "causal", "padding", "boolean", "bias"])
def test_statistics_equal_those_of_the_whole_pattern(masking, sharpness, route, grad):
    q, k, v = random_inputs(sharpness=sharpness)
    groups = torch.randint(0, 3, (2, 13), generator=torch.Generator().manual_seed(1))
    mask, causal = None, masking == "causal"
    if masking == "padding":
        mask = padding(2, 13, 4)
    elif masking == "boolean":
        mask = padding(2, 13, 4) == 0
    elif masking == "bias":
        mask = torch.randn(1, 4, 13, 13, generator=torch.Generator().manual_seed(2))
    [stats] = run(Attend(4, **ROUTES[route]), q, k, v, mask, causal, groups=groups, grad=grad)
    entropy, mass, support = reference(q, k, mask, causal, groups)
    assert (stats.entropy - entropy).abs().max() < 2e-5
    assert (stats.mass - mass).abs().max() < 5e-6
    assert torch.equal(stats.support.expand(2, 4, 13), support.expand(2, 4, 13))
    assert stats.route == ("fused" if route == "fused" else "eager")


def agree(found, expected, tolerance):
    assert torch.equal(found.isnan(), expected.isnan())
    assert (found - expected).nan_to_num(0.0).abs().max() < tolerance


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("rows", [None, [2, 7, 12]])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("masking", ["none", "causal", "boolean"])
def test_group_entropies_equal_those_of_the_group_alone(masking, shared, rows, route):
    q, k, v = random_inputs(sharpness=3.0)
    groups = torch.randint(0, 3, (1 if shared else 2, 13), generator=torch.Generator().manual_seed(4))
    mask = padding(2, 13, 4) == 0 if masking == "boolean" else None
    [stats] = run(Attend(4, **ROUTES[route]), q, k, v, mask, masking == "causal", groups=groups, rows=rows)
    chosen = slice(None) if rows is None else rows
    entropy, support = group_reference(q, k, groups.expand(2, -1), mask, masking == "causal")
    agree(stats.group_entropy, entropy[:, :, chosen], 2e-5)
    assert torch.equal(stats.group_support.expand(2, 4, -1, -1), support[:, :, chosen].expand(2, 4, -1, -1))
    whole, mass, count = reference(q, k, mask, masking == "causal", groups.expand(2, -1))
    agree(stats.entropy, whole[:, :, chosen], 2e-5)
    agree(stats.mass, mass[:, :, chosen], 5e-6)
    assert torch.equal(stats.support.expand(2, 4, -1), count[:, :, chosen].expand(2, 4, -1))


def test_labels_in_many_runs_are_summed_all_the_same():
    q, k, v = random_inputs(queries=50, keys=50)
    groups = torch.arange(50)[None] % 3
    [stats] = run(Attend(4), q, k, v, groups=groups)
    agree(stats.group_entropy, group_reference(q, k, groups.expand(2, -1))[0], 2e-5)


def test_no_rows_are_seen_but_yield_nothing():
    q, k, v = random_inputs()
    for eager in (False, True):
        assert run(Attend(4, eager=eager), q, k, v, rows=[]) == []


def test_labels_of_the_wrong_shape_are_refused():
    with pytest.raises(ProbeError, match=r"group labels of shape \(1, 7\) for 13 keys"):
        run(Attend(4), *random_inputs(), groups=torch.zeros(1, 7, dtype=torch.long))


@pytest.mark.parametrize("blocks", [1, 64, 1000, 1 << 19])
@pytest.mark.parametrize("causal", [False, True])
def test_the_size_of_a_block_changes_nothing(causal, blocks, monkeypatch):
    q, k, v = random_inputs(queries=37, keys=37, batch=3)
    groups = torch.randint(0, 3, (3, 37), generator=torch.Generator().manual_seed(5))
    entropy, mass, _ = reference(q, k, None, causal, groups)
    monkeypatch.setattr(reduce, "BLOCK_ELEMENTS", blocks)
    for eager in (False, True):
        [stats] = run(Attend(4, eager=eager), q, k, v, None, causal, groups=groups)
        agree(stats.entropy, entropy, 2e-5)
        agree(stats.mass, mass, 5e-6)


@pytest.mark.parametrize("sharpness", [1.0, 30.0, 300.0])
def test_near_deterministic_rows(sharpness):
    """Logits of thousands: one key takes almost everything."""
    q, k, v = random_inputs(sharpness=sharpness, seed=6)
    [stats] = run(Attend(4), q, k, v)
    assert (stats.entropy - reference(q, k)[0]).abs().max() < 6e-5


class Grouped(nn.Module):
    """Grouped-query attention, a query head's keys being shared, by PyTorch's own option."""

    num_heads = 4

    def forward(self, q, k, v, causal=False):
        return F.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=True)


@pytest.mark.parametrize("causal", [False, True])
def test_grouped_queries(causal):
    q, k, v = random_inputs()
    [stats] = run(Grouped(), q, k[:, :2], v[:, :2], causal)
    entropy, _, _ = reference(q, k[:, :2].repeat_interleave(2, 1), causal=causal)
    assert stats.entropy.shape == (2, 4, 13)
    agree(stats.entropy, entropy, 2e-5)


def test_decoding_that_packs_grouped_heads_into_the_query_axis_is_unpacked():
    class Packed(nn.Module):
        config, num_key_value_groups = SimpleNamespace(num_attention_heads=4), 2

        def forward(self, q, k, v):
            if q.shape[2] == 1:
                q = q.view(2, 2, 2, 16)
            else:
                k, v = (x.repeat_interleave(2, 1) for x in (k, v))
            return F.scaled_dot_product_attention(q, k, v)

    for queries in (1, 2):  # with two queries nothing is packed, though the shapes are as if it were
        q, k, v = random_inputs(queries=queries)
        [stats] = run(Packed(), q, k[:, :2], v[:, :2])
        assert stats.entropy.shape == (2, 4, queries)
        agree(stats.entropy, reference(q, k[:, :2].repeat_interleave(2, 1))[0], 2e-5)


def test_as_many_queries_as_heads_are_queries_all_the_same():
    q, k, v = random_inputs(queries=8, heads=1)
    module = Attend(8)
    [stats] = run(module, q, k, v)
    assert stats.entropy.shape == (2, 1, 8)


@pytest.mark.parametrize("eager", [False, True])
def test_heads_may_have_masks_of_their_own(eager):
    q, k, v = random_inputs(queries=5, keys=5, heads=2)
    mask = torch.zeros(2, 2, 5, 5)
    mask[:, 0, 0] = -torch.inf  # head 0 of query 0 sees nothing
    mask[:, 1, :, 3:] = -torch.inf
    groups = torch.tensor([[1, 1, 1, 2, 2]])
    [stats] = run(Attend(2, eager=eager), q, k, v, mask, groups=groups)
    assert stats.support[0].tolist() == [[0, 5, 5, 5, 5], [3] * 5]
    assert stats.group_support[0, :, 1, TEXT].tolist() == [2, 0]
    assert stats.entropy[:, 0, 0].isnan().all() and stats.entropy[:, 1].isfinite().all()
    p = ((q @ k.transpose(-1, -2)).double() / 4 + mask).softmax(-1).nan_to_num(0.0)
    assert (stats.entropy - torch.special.entr(p).sum(-1))[:, :, 1:].abs().max() < 2e-5


def test_logits_of_any_size_are_visible_beside_each_other():
    q, k, v = random_inputs()
    [stats] = run(Eager(lambda x: x - 6000.0), q, k, v)
    assert (stats.support == 13).all()
    agree(stats.entropy, torch.special.entr(((q @ k.transpose(-1, -2)).double() - 6000).softmax(-1)).sum(-1), 1e-2)


class Eager(nn.Module):
    """Attention by hand, with a change to the logits before the softmax, and one after it."""

    def __init__(self, before=lambda x: x, after=lambda x: x):
        super().__init__()
        self.before, self.after = before, after

    def forward(self, q, k, v):
        logits = self.before(q @ k.transpose(-1, -2))
        weights = logits.softmax(-1)
        self.after(logits)
        return weights @ v


@pytest.mark.parametrize("grad", ["inference", "no_grad"])
def test_logits_that_the_model_changes_afterwards_were_reduced_before(grad):
    q, k, v = random_inputs()
    plain, changed = (run(Eager(after=after), q, k, v, grad=grad)[0] for after in (lambda x: x, lambda x: x.zero_()))
    assert torch.equal(plain.entropy, changed.entropy)


def test_two_softmaxes_before_one_product_are_not_passed_over():
    class DifferentialAttention(nn.Module):
        def forward(self, q, k, v):
            a, b = ((x @ k.transpose(-1, -2)).softmax(-1) for x in (q, -q))
            return (a - 0.5 * b) @ v

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = DifferentialAttention()

        def forward(self, *args):
            return self.layer(*args)

    with pytest.raises(ProbeError, match="ran unseen: layer"):
        run(Model(), *random_inputs())


def test_a_group_too_faint_for_float32_is_undefined_not_wrong():
    k = torch.zeros(1, 1, 40, 8)
    k[..., 20:, 0] = -1.0
    q, groups = torch.zeros(1, 1, 1, 8), torch.tensor([[1] * 20 + [2] * 20])
    for gap, defined in ((20.0, True), (60.0, True), (98.0, False), (105.0, False)):
        q[..., 0] = gap * math.sqrt(8)
        [stats] = run(Attend(1), q, k, k, groups=groups)
        own = stats.group_entropy[0, 0, 0, TEXT].item()
        assert own == pytest.approx(math.log(20), abs=2e-5) if defined else math.isnan(own)


def test_sliding_windows_shrink_the_support():
    q, k, v = random_inputs()
    position = torch.arange(13)
    window = ((position[:, None] - position) >= 0) & ((position[:, None] - position) < 4)
    [stats] = run(Attend(4), q, k, v, window[None, None])
    assert stats.support.flatten().tolist() == [1, 2, 3] + [4] * 10
    agree(stats.entropy, reference(q, k, window.expand(2, 1, 13, 13))[0], 2e-5)


def test_soft_capped_logits():
    class Capped(nn.Module):
        def forward(self, q, k, v):
            return (torch.tanh(q @ k.transpose(-1, -2) / 4 / 5) * 5).softmax(-1) @ v

    q, k, v = random_inputs(sharpness=6.0)
    [stats] = run(Capped(), q, k, v)
    p = (torch.tanh(q.double() @ k.double().transpose(-1, -2) / 4 / 5) * 5).softmax(-1)
    agree(stats.entropy, torch.special.entr(p).sum(-1), 2e-5)


@pytest.mark.parametrize("grad", ["inference", "no_grad", "autograd"])
def test_the_unfused_kernel_of_pytorch_is_seen(grad):
    q, k, v = random_inputs()
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        [stats] = run(Attend(4), q, k, v, causal=True, grad=grad)
    agree(stats.entropy, reference(q, k, causal=True)[0], 2e-5)


@pytest.mark.parametrize("eager", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_reduced_in_float32(dtype, eager):
    """Fused: exact from the same queries and keys. Eager: exact from the logits that the model itself rounded."""
    q, k, v = (x.to(dtype) for x in random_inputs(sharpness=4.0))
    groups = torch.randint(0, 3, (2, 13), generator=torch.Generator().manual_seed(1))
    [stats] = run(Attend(4, eager=eager), q, k, v, groups=groups)
    assert stats.entropy.dtype == torch.float32
    if eager:
        p = (q @ k.transpose(-1, -2) / 4).double().softmax(-1)
        agree(stats.entropy, torch.special.entr(p).sum(-1), 2e-5)
    else:
        entropy, mass, _ = reference(q, k, groups=groups)
        agree(stats.entropy, entropy, 2e-5)
        agree(stats.mass, mass, 5e-6)


def test_nan_and_infinite_logits_do_not_pass_as_numbers():
    q, k, v = random_inputs()
    for value in (torch.nan, torch.inf):
        broken = q.clone()
        broken[0, 0, 0, 0] = value
        for eager in (False, True):
            [stats] = run(Attend(4, eager=eager), broken, k, v)
            assert not stats.entropy[0, 0, 0].isfinite() and stats.entropy[1].isfinite().all()


def test_generation_with_a_cache_is_seen_call_by_call():
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        vocab_size=40, bos_token_id=1, eos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(config).eval()
    ids = torch.randint(3, 40, (2, 6))
    with AttentionProbe(model) as probe, torch.inference_mode():
        sequence = model.generate(ids, max_new_tokens=3, do_sample=False)
    whole = run(model, sequence[:, :-1])  # the same queries in one pass
    for layer in ("model.layers.0.self_attn", "model.layers.1.self_attn"):
        calls = [s for s in probe.stats if s.site == layer]
        assert [(s.call, s.entropy.shape[1:], s.support.max().item()) for s in calls] == [
            (0, (4, 6), 6), (1, (4, 1), 7), (2, (4, 1), 8),
        ]  # fmt: skip
        [once] = [s for s in whole if s.site == layer]
        agree(torch.cat([s.entropy for s in calls], 2), once.entropy, 2e-5)


def test_a_common_offset_of_the_keys_costs_no_precision():
    q, k, v = random_inputs(queries=200, keys=200, sharpness=3.0)
    k = k + 20.0  # logits near 100 with a spread of a few
    [stats] = run(Attend(4), q, k, v)
    assert (stats.entropy - reference(q, k)[0]).abs().max() < 2e-5


def test_cross_attention_and_blocks_of_rows():
    q, k, v = random_inputs(queries=700, keys=900, batch=1)
    for eager in (False, True):  # 4 · 900 · 700 logits are more than one block
        [stats] = run(Attend(4, eager=eager), q, k, v)
        assert stats.entropy.shape == (1, 4, 700)
        assert (stats.entropy - reference(q, k)[0]).abs().max() < 2e-5


@pytest.mark.parametrize("eager", [False, True])
def test_laws(eager):
    q, k, v = random_inputs()
    groups = torch.tensor([[OTHER] + [IMAGE] * 6 + [TEXT] * 6])
    module = Attend(4, eager=eager)
    [stats] = run(module, q, k, v, groups=groups)
    assert torch.allclose(stats.mass.sum(-1), torch.ones(2, 4, 13), atol=1e-5)  # shares add to 1
    assert (stats.entropy >= 0).all() and (stats.entropy <= math.log(13) + 1e-5).all()
    [uniform] = run(module, torch.zeros_like(q), k, v, groups=groups)
    assert torch.allclose(uniform.entropy, torch.full((2, 4, 13), math.log(13)), atol=1e-5)
    assert torch.allclose(uniform.mass, torch.tensor([1, 6, 6]) / 13, atol=1e-6)
    order = torch.randperm(13, generator=torch.Generator().manual_seed(3))
    [permuted] = run(module, q, k[:, :, order], v[:, :, order], groups=groups[:, order])
    assert torch.allclose(permuted.entropy, stats.entropy, atol=1e-5)  # the order of keys does not matter
    assert torch.allclose(permuted.mass, stats.mass, atol=1e-5)
    [swapped] = run(module, q.flip(1), k.flip(1), v.flip(1))
    assert torch.allclose(swapped.entropy, stats.entropy.flip(1), atol=1e-5)  # nor does that of heads


def test_a_query_that_sees_nothing_is_undefined_not_zero():
    q, k, v = random_inputs()
    mask = torch.zeros(2, 1, 13, 13)
    mask[0, 0, 5] = -torch.inf
    [stats] = run(Attend(4), q, k, v, mask, groups=torch.zeros(1, 13, dtype=torch.long))
    assert stats.entropy[0, :, 5].isnan().all() and stats.mass[0, :, 5].isnan().all()
    assert int(stats.entropy.isnan().sum()) == 4 and stats.support[0, 0, 5] == 0


def test_sites_are_named_and_calls_counted():
    model = nn.Sequential(nn.ModuleDict({"attn": Attend(4)})["attn"], Attend(4))
    q, k, v = random_inputs()

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = model

        def forward(self, q, k, v):
            for layer in (self.layers[0], self.layers[1], self.layers[0]):
                layer(q, k, v)

    assert [(s.site, s.call) for s in run(Twice(), q, k, v)] == [("layers.0", 0), ("layers.1", 0), ("layers.0", 1)]


@pytest.fixture
def encoder():
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, dropout=0.0)
    return nn.TransformerEncoder(layer, 2).eval()


@pytest.mark.parametrize("grad", ["inference", "no_grad", "autograd"])
def test_the_fast_path_of_multihead_attention_is_seen(encoder, grad):
    x = torch.randn(3, 7, 32)
    seen = run(encoder, x, grad=grad)
    assert [s.site for s in seen] == ["layers.0.self_attn", "layers.1.self_attn"]
    assert all(s.entropy.shape == (3, 4, 7) for s in seen)


def test_the_models_output_is_the_same_and_nothing_is_left_behind(encoder):
    from torch.nn.modules import module as hooks

    def state():
        flag = torch.backends.mha.get_fastpath_enabled()
        return (
            flag,
            len(hooks._global_forward_hooks),
            len(hooks._global_forward_pre_hooks),
            torch._C._len_torch_dispatch_stack(),
        )

    x, before = torch.randn(3, 7, 32), state()
    with torch.enable_grad():
        plain = encoder(x)
        with AttentionProbe(encoder):
            probed = encoder(x)
    assert torch.equal(plain, probed) and state() == before
    with pytest.raises(KeyboardInterrupt), AttentionProbe(encoder):
        raise KeyboardInterrupt
    assert state() == before
    with pytest.raises(AssertionError), AttentionProbe(encoder):
        encoder(torch.randn(3, 7, 31))
    assert state() == before


def test_a_classifiers_softmax_is_not_attention(encoder):
    class Classifier(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = encoder

        def forward(self, x):
            return self.encoder(x).softmax(-1)

    assert len(run(Classifier(), torch.randn(2, 7, 32))) == 2


class HiddenAttention(nn.Module):
    """Calls itself attention, and does it in a way no operator shows."""

    def forward(self, x):
        return torch.sigmoid(x @ x.transpose(-1, -2)) @ x


def test_an_attention_module_that_yields_nothing_is_loud():
    model = nn.Sequential(HiddenAttention())
    with pytest.raises(ProbeError, match="ran unseen: 0(.|\n)*allow_unseen"):
        run(model, torch.randn(1, 4, 8))
    with AttentionProbe(model, allow_unseen=True) as probe:
        model(torch.randn(1, 4, 8))
    assert probe.unseen() == ["0"] and probe.stats == []


def test_a_model_without_attention_is_loud():
    with pytest.raises(ProbeError, match="no attention call"):
        run(nn.Linear(3, 3), torch.randn(2, 3))


def test_an_attention_module_that_did_not_run_is_no_gap(encoder):
    model = nn.ModuleDict({"used": encoder, "idle": HiddenAttention()})

    class Half(nn.Module):
        def __init__(self):
            super().__init__()
            self.parts = model

        def forward(self, x):
            return self.parts["used"](x)

    assert len(run(Half(), torch.randn(2, 7, 32))) == 2


def test_a_scripted_fast_path_is_refused():
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True).eval()
    x = torch.randn(1, 5, 32)
    with torch.no_grad():
        traced = torch.jit.trace(layer, x)
        with pytest.raises(ProbeError, match="hidden inside"), AttentionProbe(traced):
            traced(x)

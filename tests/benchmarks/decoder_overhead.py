"""Cost of the probe on a LLaVA-like decoder, against the bare forward pass and against `output_attentions`.

    python tests/benchmarks/decoder_overhead.py [--runs 5] [--tokens 2048] [--batch 1]

A Llama decoder (hidden 512, 8 layers, 8 heads, random weights) over 576 image embeddings and text. Ways to run it:

bare      SDPA, nothing watched
probe     SDPA under the probe: entropy, group entropies, masses and support of every query row
readout   SDPA under the probe, statistics of 16 query rows
floor     bare, and then each layer's logits and exponentials once more, in the probe's blocks: no exact statistic of a
          kernel that keeps its probabilities to itself can cost less
maps      eager attention, `output_attentions=True`, the same statistics from the maps, layer by layer afterwards

All alternate in one process; medians are printed. Memory is the peak above the loaded model, each way in a fresh
process (Linux: VmHWM), large blocks returned to the system at once, so that it is what is really alive.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from probe_overhead import peak
from transformers import LlamaConfig, LlamaModel

from attention_collapse.probe import IMAGE, OTHER, TEXT, AttentionProbe
from attention_collapse.probe.reduce import _blocks

WAYS = ("bare", "probe", "readout", "floor", "maps")


def ways(tokens: int, batch: int, threads: int) -> dict[str, Callable[[], None]]:
    """Each way to run the decoder once."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=512, intermediate_size=1376, num_hidden_layers=8, num_attention_heads=8, vocab_size=32,
        max_position_embeddings=16384,
    )  # fmt: skip
    model = LlamaModel(config).eval()
    model.config._attn_implementation = "sdpa"
    inputs = torch.randn(batch, tokens, 512)
    labels = torch.full((1, tokens), TEXT)
    labels[:, :35], labels[:, 35 : 35 + 576] = OTHER, IMAGE
    one_hot = F.one_hot(labels, 3).float()
    readout = torch.arange(tokens - 16, tokens)

    def forward(implementation: str, **options: object) -> object:
        model.config._attn_implementation = implementation
        with torch.inference_mode():
            return model(inputs_embeds=inputs, use_cache=False, **options)

    def bare() -> None:
        forward("sdpa")

    def probed(rows: torch.Tensor | None) -> None:
        with AttentionProbe(model, on_stats=lambda _: None, keys=lambda *_: labels, rows=lambda *_: rows):
            forward("sdpa")

    q, k = torch.randn(8 * batch, tokens, 64), torch.randn(8 * batch, 64, tokens)
    blocks, size = _blocks(batch, 8, tokens, tokens, causal=True)
    x, p = torch.empty(size), torch.empty(size)

    def floor() -> None:
        bare()
        for _ in range(config.num_hidden_layers):
            for _, rows in blocks:
                n = (rows.stop - rows.start) * rows.stop * len(q)
                logits = x[:n].view(len(q), -1, rows.stop)
                torch.bmm(q[:, rows], k[:, :, : rows.stop], out=logits)
                torch.exp2(logits, out=p[:n].view(logits.shape))

    def maps() -> None:
        for p in forward("eager", output_attentions=True).attentions:
            with torch.inference_mode():
                mass = p @ one_hot
                terms = torch.special.entr(p)
                terms.sum(-1), (terms @ one_hot) / mass + mass.log()

    return {
        "bare": bare,
        "probe": lambda: probed(None),
        "readout": lambda: probed(readout),
        "floor": floor,
        "maps": maps,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--growth", action="store_true", help="only the probe's extra memory, 1,024 to 8,192 tokens")
    parser.add_argument("--peak", choices=WAYS, help=argparse.SUPPRESS)  # one pass, in a fresh process
    arguments = parser.parse_args()
    if arguments.peak:
        print(peak(ways(arguments.tokens, arguments.batch, arguments.threads)[arguments.peak]))
        return

    def memory(way: str, tokens: int) -> float:
        command = [sys.executable, __file__, "--peak", way, "--tokens", str(tokens), "--batch", str(arguments.batch)]
        environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "131072"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return float(done.stdout)

    if arguments.growth:
        for tokens in (1024, 2048, 4096, 8192):
            bare, probe = (memory(way, tokens) for way in ("bare", "probe"))
            print(
                f"{tokens:>5} tokens: bare {bare:.0f} MiB, probe {probe:.0f} MiB, extra {probe - bare:.1f} MiB",
                flush=True,
            )
        return
    functions = ways(arguments.tokens, arguments.batch, arguments.threads)
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for run in range(arguments.runs + 1):
        order = [*WAYS[run % len(WAYS) :], *WAYS[: run % len(WAYS)]]  # no way always follows the same other
        for name in order:
            start = time.perf_counter()
            functions[name]()
            if run:  # the first pass of each warms up
                seconds[name].append(time.perf_counter() - start)
    time_of = {name: statistics.median(values) for name, values in seconds.items()}
    peaks = {name: memory(name, arguments.tokens) for name in functions}
    print(f"{arguments.tokens} tokens, batch {arguments.batch}, {arguments.runs} runs")
    for name in WAYS:
        print(f"{name:<8} {time_of[name]:6.3f} s  {peaks[name]:7.0f} MiB")
    for name, base in (("probe", "bare"), ("floor", "bare"), ("readout", "bare"), ("probe", "maps")):
        single = [a / b for a, b in zip(seconds[name], seconds[base], strict=True)]
        print(
            f"{name} ÷ {base}: time {time_of[name] / time_of[base]:.3f} (single {min(single):.3f}–{max(single):.3f}), "
            f"peak memory {peaks[name] / peaks[base]:.3f}"
        )


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""peers.py -- what PyTorch takes for the work that `nibble bench kernels` measures, timed the same way: a line of JSON each.

Called by bench/gpu.sh where python3 has a torch that sees a GPU; nothing else of nibble uses Python. As many copies of the weight take
turns as four times L2 holds; a series of calls is one CUDA graph, timed by events behind another replay of it; median of 21 and the
distance between the quartiles. Peers: bf16 by torch.mm (cuBLAS), 4 bits by torch._weight_int4pack_mm (tinygemm: bf16 scale and zero a
group of 128), attention of a causal prompt of 8192 by scaled_dot_product_attention, the factor of H by torch.linalg.cholesky.
"""
import json
import statistics
import sys

import torch
import torch.nn.functional as F

SAMPLES, SERIES_MS, MOST_CALLS = 21, 2.0, 4096
DEV = torch.device("cuda:0")
L2 = torch.cuda.get_device_properties(0).L2_cache_size


def copies(size):
    return min(256, 4 * L2 // size + 2)


def once(graph):
    """ms of one replay, launched while another runs."""
    a, b = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    graph.replay()
    a.record()
    graph.replay()
    b.record()
    b.synchronize()
    return a.elapsed_time(b)


def record(call, n):
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for i in range(n):
            call(i)
    return graph


def timed(call, n_copy):
    """Microseconds of a call: median, spread, calls of a series."""
    with torch.cuda.stream(torch.cuda.Stream()):
        for i in range(3):
            call(i)
    torch.cuda.synchronize()
    n = n_copy
    while True:
        graph = record(call, n)
        ms = once(graph)
        if ms >= SERIES_MS or n >= MOST_CALLS:
            break
        n *= min(16, int(1.25 * SERIES_MS / ms) + 1)
    us = sorted(once(graph) * 1e3 / n for _ in range(SAMPLES))
    quarter = statistics.quantiles(us, n=4)
    return statistics.median(us), quarter[2] - quarter[0], n


def row(peer, call, n_copy, **more):
    try:
        us, spread, n = timed(call, n_copy)
        print(json.dumps({"peer": peer, **more, "us": round(us, 3), "us_spread": round(spread, 3), "n_call": n}), flush=True)
    except (RuntimeError, AttributeError) as e:  # another version of torch, a shape it refuses
        print(json.dumps({"peer": peer, **more, "error": str(e).splitlines()[0]}), flush=True)


def bf16(n, k, tokens):
    w = [torch.randn(n, k, device=DEV, dtype=torch.bfloat16) for _ in range(copies(2 * n * k))]
    for m in tokens:
        x = torch.randn(m, k, device=DEV, dtype=torch.bfloat16)
        y = torch.empty(m, n, device=DEV, dtype=torch.bfloat16)
        row("torch.mm bf16", lambda i: torch.mm(x, w[i % len(w)].t(), out=y), len(w), m=m, n=n, k=k)


def int4(n, k, tokens, group=128):
    def pack(seed):
        g = torch.Generator(device=DEV).manual_seed(seed)
        code = torch.randint(0, 256, (n, k // 2), device=DEV, dtype=torch.uint8, generator=g)
        return torch._convert_weight_to_int4pack(code, 8)

    w = [pack(i) for i in range(copies(n * k // 2))]
    sz = torch.rand(k // group, n, 2, device=DEV).to(torch.bfloat16)
    for m in tokens:
        x = torch.randn(m, k, device=DEV, dtype=torch.bfloat16)
        row("tinygemm int4 g128", lambda i: torch._weight_int4pack_mm(x, w[i % len(w)], group, sz), len(w), m=m, n=n, k=k)


def main():
    print(json.dumps({"torch": torch.__version__, "cuda": torch.version.cuda, "gpu": torch.cuda.get_device_name(0), "l2_bytes": L2}))
    for n, k in ((8192, 28672), (8192, 8192)):
        bf16(n, k, (1, 16, 32, 64, 128, 256, 1024, 8192))
        try:
            int4(n, k, (1, 16, 32, 64, 128, 256))
        except (RuntimeError, AttributeError) as e:
            print(json.dumps({"peer": "tinygemm int4 g128", "n": n, "k": k, "error": str(e).splitlines()[0]}))
        torch.cuda.empty_cache()
    q, k, v = (torch.randn(1, h, 8192, 128, device=DEV, dtype=torch.bfloat16) for h in (32, 8, 8))
    row("sdpa causal 8192, 32 heads of 128, 8 of the cache", lambda i: F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True), 1)
    a = torch.randn(8192, 8192, device=DEV)
    h = a @ a.t() / 8192 + torch.eye(8192, device=DEV)
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    us = []
    for _ in range(5):  # it waits for the host: no graph
        start.record()
        torch.linalg.cholesky(h)
        end.record()
        end.synchronize()
        us.append(start.elapsed_time(end) * 1e3)
    print(json.dumps({"peer": "cholesky f32, 8192", "us": round(statistics.median(us), 1)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())

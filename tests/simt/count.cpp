// count.cpp -- what the memory system would do: the lanes of a warp are grouped into requests by
// (instruction, n-th execution since the warp last converged). Exact for uniform control flow,
// approximate where lanes skip iterations.
//
//   global  32-byte sectors of each request, and sectors touched at least once in the launch
//   shared  wavefronts: distinct words of one bank in one phase; 16-byte accesses take 4 phases
//           of 8 lanes, 8-byte ones 2 of 16; ideal: one per phase
#include "simt_runtime.h"

namespace simt
{
u32 wavefronts(const Request &r, u32 *ideal)
{
    const u32 phase = r.size >= 16 ? 8 : r.size == 8 ? 16 : 32;
    u32 n = 0;
    *ideal = 0;
    for (u32 first = 0; first < 32; first += phase) {
        u32 n_in_bank[32] = {}, words[128], n_word = 0, most = 0;
        for (u32 l = first; l < first + phase; l++) {
            if (!(r.mask >> l & 1))
                continue;
            for (u32 w = r.offset[l] >> 2; w <= (r.offset[l] + r.size - 1) >> 2; w++) {
                u32 k = 0;
                while (k < n_word && words[k] != w)
                    k++;
                if (k < n_word)
                    continue; // one word is broadcast
                words[n_word++] = w;
                if (++n_in_bank[w & 31] > most)
                    most = n_in_bank[w & 31];
            }
        }
        n += most;
        *ideal += n_word ? 1 : 0;
    }
    return n;
}

static void add_shared(const Site &s, const Request &r)
{
    u32 ideal;
    const u32 waves = wavefronts(r, &ideal);
    (s.write ? last.sst_req : last.sld_req)++;
    (s.write ? last.sst_wave : last.sld_wave) += waves;
    (s.write ? last.sst_ideal : last.sld_ideal) += ideal;
}

static void add_global(const Site &s, const Request &r)
{
    u32 sectors[64], n_sector = 0;
    u64 bytes = 0;
    u32 *stamp = s.write ? space.store_stamp : space.load_stamp;
    for (int l = 0; l < 32; l++) {
        if (!(r.mask >> l & 1))
            continue;
        bytes += r.size;
        for (u32 x = r.offset[l] >> 5; x <= (r.offset[l] + r.size - 1) >> 5; x++) {
            int k = (int)n_sector - 1;
            while (k >= 0 && sectors[k] != x)
                k--;
            if (k >= 0)
                continue;
            sectors[n_sector++] = x;
            if (stamp[x] != now.number) {
                stamp[x] = now.number;
                (s.write ? last.uniq_st_sec : last.uniq_ld_sec)++;
            }
        }
    }
    (s.write ? last.st_req : last.ld_req)++;
    (s.write ? last.st_sec : last.ld_sec) += n_sector;
    (s.write ? last.st_bytes : last.ld_bytes) += bytes;
}

void count_bulk(u64 offset, u64 n)
{
    for (u64 x = offset >> 5; x <= (offset + n - 1) >> 5; x++) {
        last.ld_sec++;
        if (space.load_stamp[x] != now.number) {
            space.load_stamp[x] = now.number;
            last.uniq_ld_sec++;
        }
    }
    last.ld_bytes += n;
}

void count_flush(Warp *w)
{
    for (Site &s : w->sites) {
        for (const Request &r : s.requests)
            s.shared ? add_shared(s, r) : add_global(s, r);
        s.requests.clear();
        memset(s.n_seen, 0, sizeof s.n_seen);
    }
}

static u32 find_site(Warp *w, void *pc, bool write, bool shared)
{
    u32 i = 0;
    for (; i < w->sites.size(); i++)
        if (w->sites[i].pc == pc && w->sites[i].write == write && w->sites[i].shared == shared)
            return i;
    w->sites.emplace_back();
    Site &s = w->sites[i];
    s.pc = pc;
    s.write = write;
    s.shared = shared;
    memset(s.n_seen, 0, sizeof s.n_seen);
    return i;
}

void count_access(Thread *t, u64 offset, u32 n, bool write, void *pc)
{
    Warp *w = t->warp;
    const bool shared = offset < kHeap;
    u32 &cached = w->site_hash[(uptr)pc * 0x9E3779B97F4A7C15ull >> 58];
    if (cached >= w->sites.size() || w->sites[cached].pc != pc || w->sites[cached].write != write ||
        w->sites[cached].shared != shared)
        cached = find_site(w, pc, write, shared);
    Site &s = w->sites[cached];
    const u32 k = s.n_seen[t->lane]++;
    if (k >= s.requests.size()) {
        s.requests.emplace_back();
        s.requests.back().mask = 0;
    }
    Request &r = s.requests[k];
    r.mask |= 1u << t->lane;
    r.size = (u8)(n > 16 ? 16 : n);
    r.offset[t->lane] = (u32)(shared ? offset % kArenaBytes : offset);
}
} // namespace simt

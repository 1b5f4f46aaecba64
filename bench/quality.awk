# quality.awk -- the tables of docs/QUALITY.md from raw lines of bench/quality: a table a model and number of samples, a row a grid and method.
#
# mean over the seeds; +- is the standard error over the seeds, or of the evaluated positions where there is one seed. x rtn: the mean over the seeds of
# KL over that of plain rounding on the same grid. beside: KL over another program's on the same tokens, averaged over the seeds both have.

function key(name,   at, v) { # the value of a key of the line, without quotes
    at = index($0, "\"" name "\":")
    if (!at)
        return ""
    v = substr($0, at + length(name) + 3)
    if (substr(v, 1, 1) == "\"") {
        v = substr(v, 2)
        return substr(v, 1, index(v, "\"") - 1)
    }
    match(v, /^[^,}]*/)
    return substr(v, 1, RLENGTH)
}

{
    model = key("model"); grid = key("grid"); method = key("method"); seed = key("seed"); samples = key("samples")
    if (!(model in known)) { known[model] = 1; models[++n_model] = model }
    again[model] = again[model] || key("requantized") == "true"
    commit[model] = commit[model] (index(commit[model], key("commit")) ? "" : (commit[model] ? ", " : "") key("commit"))
    about[model] = key("calib") " (sha256 " key("calib_sha256") "...) -> " key("text") " (sha256 " key("text_sha256") "...), " key("chunks") " chunks of 512, " key("tokens") " positions"
    id = model SUBSEP grid SUBSEP method SUBSEP samples
    if (!(id in n)) { order[++n_row] = id }
    i = n[id]++
    kl[id, seed] = key("kl_mean"); mid[id, seed] = key("kl_median")
    row_seed[id, i] = seed
    ppl[id] += key("ppl"); top[id] += key("top1"); err[id] = key("kl_stderr")
    notes[id] = key("notes")
}

# mean of a[id, seed] over the seeds; sets `se`
function mean(a, id,   i, s, m, q) {
    for (i = 0; i < n[id]; i++)
        m += a[id, row_seed[id, i]]
    m /= n[id]
    for (i = 0; i < n[id]; i++)
        q += (a[id, row_seed[id, i]] - m) ^ 2
    se = n[id] > 1 ? sqrt(q / (n[id] - 1) / n[id]) : 0
    return m
}

# KL of `id` over that of the other program's line, over the seeds that both have; "" if there is none
function beside(id, other,   i, s, r, c) {
    for (i = 0; i < n[id]; i++) {
        s = row_seed[id, i]
        if ((other, s) in kl && kl[other, s] > 0) {
            r += kl[id, s] / kl[other, s]
            c++
        }
    }
    return c ? r / c : ""
}

END {
    for (m = 1; m <= n_model; m++) {
        model = models[m]
        mark = again[model] ? " (re-quantized)" : ""
        printf "### %s%s\n\n%s; commit %s.\n\n", model, mark, about[model], commit[model]
        print "| grid | method | samples x seeds | KL, mean | x rtn | KL, median | x rtn | top-1 | perplexity | beside | notes |"
        print "|---|---|---|---:|---:|---:|---:|---:|---:|---|---|"
        for (r = 1; r <= n_row; r++) {
            split(order[r], part, SUBSEP)
            if (part[1] != model)
                continue
            id = order[r]
            if (part[3] == "original") {
                printf "| original%s | | | 0 | | 0 | | 1 | %.3f | | |\n", mark, ppl[id]
                continue
            }
            rtn = model SUBSEP part[2] SUBSEP "rtn" SUBSEP 0
            k = mean(kl, id); e = n[id] > 1 ? se : err[id]
            md = mean(mid, id)
            xk = (rtn, 0) in kl ? sprintf("%.3f", k / kl[rtn, 0]) : ""
            xm = (rtn, 0) in mid ? sprintf("%.3f", md / mid[rtn, 0]) : ""
            text = ""
            if (part[3] !~ /^(gptqmodel|gptaq|autoawq|rtn)/)
                for (o = 1; o <= n_row; o++) {
                    split(order[o], q, SUBSEP)
                    if (q[1] != model || q[2] != part[2] || q[4] != part[4] || q[3] !~ /^(gptqmodel|gptaq|autoawq)/)
                        continue
                    b = beside(id, order[o])
                    if (b != "")
                        text = text (text ? "; " : "") sprintf("%.3f x %s%s", b, q[3], b > 1 ? ": **loses**" : "")
                }
            printf "| %s%s | %s | %s | %.4f +- %.4f | %s | %.4f | %s | %.3f | %.2f | %s | %s |\n", part[2], mark, part[3],
                part[4] ? part[4] " x " n[id] : "", k, e, xk, md, xm, top[id] / n[id], ppl[id] / n[id], text, notes[id]
        }
        print ""
    }
}

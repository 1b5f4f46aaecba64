# loops.awk -- of `nvdisasm -c -raw`: a line a kernel that multiplies on tensor cores, tab separated:
#   kernel   multiplications in its inner loop   instructions in it   instructions a multiplication   what must not be in it   bulk copies in the kernel
#
# The inner loop: of all stretches that a branch jumps back over, the shortest with a multiplication in it. What must not be there: conversions by the
# slow units (I2F, F2F, F2I: codes become bf16 by logic and fma; but for those of a division, which is made once a tile), local memory (LDL, STL).
function finish(   b, best, size, i, n, bad) {
    best = 0
    for (b = 1; b <= n_back; b++) {
        n = mma[from[b]] - mma[place[to[b]] - 1]
        size = from[b] - place[to[b]] + 1
        if (n > 0 && (!best || size < best)) {
            best = size
            hits = n
            bad = ""
            for (i = place[to[b]]; i <= from[b]; i++)
                if (op[i] ~ /^(I2F|F2F|F2I|LDL|STL)(\.|$)/ && op[i] !~ /^(I2F\.RP|F2I\.FTZ\.U32\.TRUNC\.NTZ)$/)
                    bad = op[i]
        }
    }
    if (kernel && count)
        printf "%s\t%d\t%d\t%.2f\t%s\t%d\n", kernel, best ? hits : count, best ? best : n_op, (best ? best : n_op) / (best ? hits : count), bad ? bad : "-", bulk
    n_op = n_back = count = bulk = 0
    mma[0] = 0
    split("", place)
    split("", op)
}
/^\.text\./ {
    finish()
    kernel = substr($1, 7, length($1) - 7)
    next
}
/^\.L_x_[0-9]+:/ {
    place[substr($1, 1, length($1) - 1)] = n_op + 1
    next
}
/^ +\/\*[0-9a-f]+\*\/ / {
    i = 2
    if ($i ~ /^@/)
        i++
    n_op++
    op[n_op] = $i
    if ($i ~ /^(HMMA|IMMA|QMMA|HGMMA)/)
        count++
    mma[n_op] = count
    bulk += $i ~ /^UBLKCP/
    if ($i ~ /^BRA/ && match($0, /\.L_x_[0-9]+/) && (substr($0, RSTART, RLENGTH) in place)) {
        n_back++
        from[n_back] = n_op
        to[n_back] = substr($0, RSTART, RLENGTH)
    }
}
END { finish() }

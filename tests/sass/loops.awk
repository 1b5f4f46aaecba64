# loops.awk -- of `cuobjdump -sass`: a line a kernel that multiplies on tensor cores, tab separated:
#   kernel   multiplications in its inner loop   instructions in it   instructions a multiplication   what must not be in it   bulk copies in the kernel
#
# The inner loop: of all stretches that a branch jumps back over, the shortest with a multiplication in it. What must not be there: conversions by the
# slow units (I2F, F2F, F2I: codes become bf16 by logic and fma; but for those of a division, which is made once a tile), local memory (LDL, STL).
function finish(   b, best, size, i, n, bad) {
    best = 0
    for (b = 1; b <= n_back; b++)
        if (to[b] in place) {
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
/Function : / {
    finish()
    kernel = $NF
    next
}
/^ +\/\*[0-9a-f]+\*\/ / {
    at = $1
    gsub(/[\/*]/, "", at)
    i = 2
    if ($i ~ /^@/)
        i++
    n_op++
    place[at] = n_op
    op[n_op] = $i
    if ($i ~ /^(HMMA|IMMA|QMMA|HGMMA)/)
        count++
    mma[n_op] = count
    bulk += $i ~ /^UBLKCP/
    if ($i ~ /^BRA/)
        for (k = i + 1; k <= NF; k++)
            if ($k ~ /^0x[0-9a-f]+/) {
                target = substr($k, 3)
                sub(/[^0-9a-f].*/, "", target)
                while (length(target) < length(at))
                    target = "0" target
                if (target < at) {
                    n_back++
                    from[n_back] = n_op
                    to[n_back] = target
                }
                break
            }
}
END { finish() }

# operators.awk -- every edit of a source by classic operators, one a line: file, line number, edited line, what was done. -v file=NAME.
# "... of equals": computes the same (below). Comments, includes and assertions are passed over; what does not compile is for the caller to find.

function emit(pos, len, new, what) {
    printf "%s\t%d\t%s\t%s\n", file, NR, substr($0, 1, pos - 1) new substr($0, pos + len), what
}

# Every place of the literal text `old`.
function each(old, new, what,    from, p) {
    from = 1
    while ((p = index(substr(code, from), old)) > 0) {
        emit(from + p - 1, length(old), new, what (old ~ /^ [<>]=? $/ && picks_one(from + p - 1, length(old)) ? " of equals" : ""))
        from += p - 1 + length(old)
    }
}

# The lesser or the greater of two, a < b ? a : b or a < b ? b : a: of equals it makes no difference which.
function picks_one(pos, len,    left, rest, at, b, yes, no, n) {
    left = substr(code, 1, pos - 1)
    rest = substr(code, pos + len)
    at = index(rest, " ? ")
    b = substr(rest, 1, at - 1)
    rest = substr(rest, at + 3)
    at = at ? index(rest, " : ") : 0
    if (!at)
        return 0
    yes = substr(rest, 1, at - 1)
    no = substr(rest, at + 3)
    if (is_operand(left, yes))
        return index(no, b) == 1 && substr(no, length(b) + 1) ~ /^([;),]|$)/
    for (n = length(no); yes == b && n > 0; n--)
        if (substr(no, n + 1) ~ /^([;),]|$)/ && is_operand(left, substr(no, 1, n)))
            return 1
    return 0
}

# Whether all that is compared on the left is `a`.
function is_operand(left, a,    at) {
    at = length(left) - length(a)
    return at >= 0 && substr(left, at + 1) == a && substr(left, 1, at) ~ /(^|\(|[=,?:] |return |&& |\|\| )$/
}

# Every match of a regular expression `re`: what stands left and right of `by`, without `edge` letters on both ends, swapped.
function swap(re, by, edge, what,    from, at, text, p, a, b) {
    from = 1
    while (match(substr(code, from), re)) {
        at = from + RSTART - 1 + edge
        from += RSTART - 1 + RLENGTH
        text = substr(code, at, RLENGTH - 2 * edge)
        p = index(text, by)
        a = substr(text, 1, p - 1)
        b = substr(text, p + length(by))
        if (a != b)
            emit(at, length(text), b by a, what)
    }
}

# Every statement that matches `re`: an empty one stays, which an `if` before it may need.
function drop(re, what,    from, at) {
    from = 1
    while (match(substr(code, from), re)) {
        at = from + RSTART - 1
        from = at + RLENGTH
        emit(at, RLENGTH, ";", what)
    }
}

/\/\*/ && !/\*\// { open = 1 } # a comment of several lines
{ was = open }
/\*\// { if (open) { open = 0; next } }
was || /^ *\/\// || /^ *\*/ || /^#/ || /static_assert/ || /nb_fail/ || /^(template|constexpr|struct|static inline)/ { next }
{
    code = $0
    sub(/ *\/\*.*/, "", code) # a comment at the end
    if (code !~ /[;{)]$/ && code !~ /[,+*:&|?]$/)
        next
    each(" < ", " <= ", "comparison"); each(" <= ", " < ", "comparison")
    each(" > ", " >= ", "comparison"); each(" >= ", " > ", "comparison")
    each(" == ", " != ", "comparison"); each(" != ", " == ", "comparison")
    each(" && ", " || ", "condition"); each(" || ", " && ", "condition")
    each(" + ", " - ", "sign"); each(" - ", " + ", "sign"); each(" += ", " -= ", "sign"); each(" -= ", " += ", "sign")
    each(" + 1", "", "off by one"); each(" - 1", "", "off by one"); each(" = 0;", " = 1;", "off by one")
    each("& 31", "& 15", "mask"); each("& 15", "& 7", "mask"); each("& 7)", "& 3)", "mask"); each("& 1)", "& 3)", "mask"); each(">> 5", ">> 4", "mask")
    each(" * 8", " * 4", "stride"); each(" * 16", " * 8", "stride"); each(" * 32", " * 16", "stride"); each("lane >> 2", "lane >> 3", "stride")
    swap("\\[[a-z0-9_]+\\]\\[[a-z0-9_]+\\]", "][", 1, "swapped index")
    swap("[ (][a-z_][a-z0-9_]* - [a-z_][a-z0-9_]*[ ;),]", " - ", 1, "swapped operands"); swap("[ (][a-z_][a-z0-9_]* / [a-z_][a-z0-9_]*[ ;),]", " / ", 1, "swapped operands")
    drop("(__sync(threads|warp)|named_barrier_(sync|arrive))\\([^;]*\\);", "dropped barrier")
    drop("((cp_async|wgmma)_wait<[^;]*>|mbarrier_wait)\\([^;]*\\);", "dropped wait")
    drop("(__threadfence|wgmma_fence|mbarrier_fence_init)\\(\\);", "dropped fence")
    drop("(mbarrier_arrive(_expect_tx)?|(cp_async|wgmma)_commit)\\([^;]*\\);", "dropped arrival")
    each("fmaxf(", "fminf(", "maximum"); each("INFINITY", "0.0f", "start of a maximum")
}

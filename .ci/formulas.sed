# Formulas of the READMEs, as Doxygen writes them: $x$ to \f$x\f$. Not in code.
/^```/,/^```$/!s/\$([^$]+)\$/\\f$\1\\f$/g

# Turns the table of units into a C header: make-units.sh TABLE > HEADER
set -eu
echo "/* Made from data/units.txt. */"
echo "static const struct unit UNITS[] = {"
awk '!/^#/ && NF == 3 { printf "    {\"%s\", %s, \"%s\"},\n", $1, $2, $3 }' "$1"
echo "};"

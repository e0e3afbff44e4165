# Runs the unit tests, then every case: run.sh BUILD
# A case is NAME.in with what quantiles prints for it in NAME.out; NAME.args holds its options.
set -u
build=$1
passed=0
failed=0

units=$("$build/unit-tests")
passed=$(printf '%s\n' "$units" | grep -c '^ok ')
failed=$(printf '%s\n' "$units" | grep -c '^not ok ')
printf '%s\n' "$units" | grep '^not ok '

for input in tests/cases/*.in; do
    name=$(basename "$input" .in)
    options=$(cat "tests/cases/$name.args" 2>/dev/null)
    # The options are words without blanks.
    if "$build/quantiles" $options < "$input" 2>&1 | diff - "tests/cases/$name.out"; then
        passed=$((passed + 1))
    else
        echo "not ok $name"
        failed=$((failed + 1))
    fi
done

echo "$passed passed, $failed failed"

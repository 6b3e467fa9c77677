# shellcheck shell=sh disable=SC2154
# The scripts: their form, and what they say.

shell_is_clean() {
	needs shellcheck shellcheck
	shellcheck -x scripts/*.sh tests/*.sh .ci/*
}

help_of_each_script() {
	for script in scripts/*.sh; do
		[ "$script" = scripts/common.sh ] && continue
		works "$script" -h
		grep -q "^${script#scripts/}" "$work/said" || broken "$script -h does not say what it does"
		"$script" --no-such-flag >/dev/null 2>&1
		[ $? -eq 2 ] || broken "$script takes any flag"
	done
}

run "shellcheck" shell_is_clean
run "-h of each script" help_of_each_script

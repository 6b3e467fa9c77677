#!/bin/sh
# grade.sh [OPTION...] FILE...: prints a table of hand-ins, the files that hand-in.sh writes, a line each.
# grade.sh --answers [N] FILE...: prints answer N of all hand-ins under each other; without N, all answers.
# grade.sh --rule [--seed N] FILE...: tries the rule ModelResultDrift of each hand-in, or file of rules, and its unit
#   test, with promtool. Each verdict is a line: FILE, ok, FAIL or open, rule or test, and the reason.
#
#   --csv              comma-separated values instead of the table
#   --feedback FOLDER  a text for each student in FOLDER, too
#   --class FILE       a file with lines NUMBER NAME: shows the names, and who is missing
#   --verdicts FILE    the output of --rule: its verdicts give points
#   --minutes N        flags hand-ins in which Prometheus scraped the model for fewer minutes
#   --due TIME         flags hand-ins that were written later: YYYY-MM-DD, or YYYY-MM-DD HH:MM in this machine's time
#   --seed N           a number that you choose: the same one gives the same results; by default, it is drawn
#
# The criteria and their points are in scripts/lib/grade/criteria.txt. The column seed is the share of the results that
# belong to the student's number, without the runs with --value. The last column gives reasons for a second look:
#   copies: same-run-as-NUMBER (results of one model), same-answers-as-NUMBER, same-computer-as-NUMBER, number-twice
#   forgeries: edited (after hand-in.sh wrote the file; its sum isn't a signature), not-its-seed, too-fast (results in
#     less time than 5 s each), finished-stack (it isn't the student's own), other-scripts (old or changed ones)
#   lacks: no-answers, no-results, only-value (runs with --value only), short, late, missing, not-in-class
#   files: not-a-hand-in, too-large (more than 5 MB), empty
# A flag is a reason to look, and proves nothing.
#
# A rule must fire within 20 minutes of each kind of drift of 600 s, and never on two days without drift. promtool gets
# 120 s of processor time for each try.

set -u
# shellcheck source=scripts/lib/common.sh
. "$(dirname "$(readlink -f "$0" 2>/dev/null || echo "$0")")/lib/common.sh"
# shellcheck source=scripts/lib/images.sh
. "$root/scripts/lib/images.sh"
# shellcheck source=scripts/lib/teacher.sh
. "$root/scripts/lib/teacher.sh"
library=$root/scripts/lib/grade
# shellcheck source=scripts/lib/grade/table.sh
. "$library/table.sh"
# shellcheck source=scripts/lib/grade/rules.sh
. "$library/rules.sh"
folder=
children=

# strip_controls: the text that is read, without characters that would change a terminal.
strip_controls() {
	tr -d '\000-\010\013-\037\177' | awk -f "$library/strip.awk"
}

# die_plain MESSAGE...: dies with the message, which names other people's files.
die_plain() {
	die "$(printf '%s' "$*" | tr '\n' ' ' | strip_controls)"
}

# is_whole_number TEXT
is_whole_number() {
	case $1 in
	'' | *[!0-9]* | ?????????????????*) return 1 ;;
	esac
}

# in_utc TIME: the time as a hand-in has it; fails if it isn't a time. A day alone means its last second.
in_utc() (
	case $1 in
	[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]) time="$1 23:59:59" ;;
	[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9][\ T][0-9][0-9]:[0-9][0-9]) time="$(printf '%s' "$1" | tr T ' '):00" ;;
	*) return 1 ;;
	esac
	# The tool has other flags on macOS.
	seconds=$(date -d "$time" +%s 2>/dev/null || date -j -f '%Y-%m-%d %H:%M:%S' "$time" +%s 2>/dev/null) || return
	date -u -d "@$seconds" +%FT%TZ 2>/dev/null || date -u -r "$seconds" +%FT%TZ
)

clean_up() {
	trap '' INT TERM HUP
	end_pull
	# shellcheck disable=SC2086 # process IDs
	[ -z "$children" ] || { kill $children && wait $children; } 2>/dev/null
	[ -z "$folder" ] || end_promtools
	[ -z "$folder" ] || rm -rf "$folder"
}

# make_folder: makes $folder. The traps come first: an interruption leaves nothing.
make_folder() {
	trap clean_up EXIT
	trap 'exit 1' INT TERM HUP
	mkdir -p "$root/target" || die "cannot write $root/target: make the folder writable, or the disk less full"
	folder=$root/target/grade.$$
	mkdir "$folder" || die "cannot write $folder: is the disk full?"
}

# list_files FILE...: writes $folder/names: the files' names in the order of the arguments, without the folder that all
# of them are in. The name carries the student's, in the files that a learning platform collects.
list_files() {
	for file in "$@"; do
		case $file in
		/*) path=$file ;;
		*) path=./$file ;;
		esac
		# Without .. in it, as the feedback gets the same name in another folder.
		path=$(cd "${path%/*}/" && pwd -P)/${path##*/}
		printf '%s' "$path" | tr '\n' ' ' | strip_controls
	done >"$folder/paths" || die "cannot write $folder: is the disk full?"
	awk -f "$library/names.awk" "$folder/paths" >"$folder/names" || die "cannot write $folder: is the disk full?"
}

# require_file FLAG FILE
require_file() {
	if [ ! -f "$2" ] || [ ! -r "$2" ]; then
		die_plain "cannot read $2: $1 takes a file"
	fi
}

# read_option FLAG VALUE: sets the variable of that flag.
read_option() {
	case $1 in
	--minutes)
		is_whole_number "$2" || usage_error "--minutes takes a whole number, not '$2'"
		minutes=$2
		;;
	--seed)
		is_whole_number "$2" || usage_error "--seed takes a whole number of at most 16 digits, not '$2'"
		seed=$2 given_seed=yes
		;;
	--due) due=$(in_utc "$2") || usage_error "--due takes YYYY-MM-DD or 'YYYY-MM-DD HH:MM', not '$2'" ;;
	--class)
		require_file "$1" "$2"
		class=$2
		;;
	--verdicts)
		require_file "$1" "$2"
		verdicts=$2
		;;
	--feedback) feedback=$2 ;;
	esac
}

main() {
	action=table class='' verdicts='' feedback='' minutes=0 due='' wanted='' seed='' given_seed=''
	while [ $# -gt 0 ]; do
		case $1 in
		-h | --help) print_help && exit ;;
		--rule) action=rule ;;
		--csv) action=csv ;;
		--answers)
			action=answers
			if [ $# -gt 1 ] && is_whole_number "$2" && [ ! -e "$2" ]; then
				wanted=$2
				shift
			fi
			;;
		--minutes | --seed | --due | --class | --verdicts | --feedback)
			[ $# -gt 1 ] || usage_error "$1 takes a value"
			read_option "$1" "$2"
			shift
			;;
		--)
			shift
			break
			;;
		-*) usage_error "unknown flag '$1'" ;;
		*) break ;;
		esac
		shift
	done
	[ -z "$given_seed" ] || [ $action = rule ] || usage_error "--seed needs --rule"
	[ $# -gt 0 ] || usage_error "it takes the files of the hand-ins"
	for file in "$@"; do
		if [ ! -f "$file" ] || [ ! -r "$file" ]; then
			case $file in
			--*) usage_error "flags come before the files, as $file" ;;
			esac
			die_plain "cannot read $file: name the files of the hand-ins"
		fi
	done
	make_folder
	list_files "$@"
	if [ $action = rule ]; then
		try_rules "$@"
	else
		grade "$@"
	fi
}

main "$@"

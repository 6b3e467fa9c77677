# shellcheck shell=sh
# shellcheck disable=SC2154 # common.sh sets $root
# Which scripts are the teacher's: a kit lacks them; and the limits of a hand-in. kit.sh, hand-in.sh and grade.sh source
# this file after common.sh.

# shellcheck disable=SC2034 # for the scripts that source this file
max_hand_in_bytes=5000000
# Of each run of the model, hand-in.sh writes as many results, and grade.sh draws as many.
# shellcheck disable=SC2034
max_results=2000

# Paths below the lab's folder.
teacher_scripts="scripts/README.md scripts/kit.sh scripts/dist.sh scripts/grade.sh scripts/test.sh"
teacher_scripts="$teacher_scripts scripts/lib/grade scripts/lib/kit"

# student_scripts: the paths of the scripts that a student has.
student_scripts() {
	(cd "$root" && find scripts -name '*.sh' -o -name '*.awk') | awk -v left_out="$teacher_scripts" '
		BEGIN { count = split(left_out, path, " ") }
		{ for (n = 1; n <= count; n++) if ($0 == path[n] || index($0, path[n] "/") == 1) next }
		{ print }' | sort
}

# scripts_sum: one sum of these scripts, the same in the teacher's clone and in a kit.
scripts_sum() {
	student_scripts | (cd "$root" && while IFS= read -r script; do sha256 "$script"; done) | sha256 - | cut -d ' ' -f 1
}

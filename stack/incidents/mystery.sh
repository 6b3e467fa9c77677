# shellcheck shell=sh
# shellcheck disable=SC2034,SC2154 # scripts/incident.sh reads and sets these
# The stack is whole, but lacks rules. The model is stuck, drifts, or gives the same result each time.

answers="stuck, drifting, fixed"

notice() {
	cat <<'END'
"Something is wrong with our model, says the customer. Nothing alerts us: we have no rules on results yet. Is it stuck
(no new results), drifting (its results slowly change), or fixed (each new result is the same)?"
END
}

plant() {
	echo "groups: []" >"$folder/prometheus/rules/model.yml"
	set -- stuck drifting fixed
	shift $(($(od -An -N2 -tu2 /dev/urandom) % 3))
	note answer "$1"
}

plant_model() {
	case $(fact answer) in
	stuck) start_model --interval 86400 ;;
	drifting) start_model --interval 1 --drift 240 ;;
	fixed) start_model --interval 1 --value 0.42 ;;
	esac
}

is_visible() {
	has_value "max($(of_model model_result))"
}

is_right() {
	[ "$1" = "$(fact answer)" ]
}

hints() {
	cat <<'END'
Look at model_result for a few minutes: does it change? A line that doesn't change has two reasons.
Is there a new result at all? Compare model_result with model_refreshes_total and the age of the latest result.
If results are new and change: compare the distribution of the last minutes with the one at the beginning.
END
}

story() {
	echo "What happened: the model was $(fact answer)."
	case $(fact answer) in
	stuck) echo "How to see it: model_refreshes_total stayed at 1, and the age of the result grew." ;;
	drifting) echo "How to see it: the lowest results rose, minute by minute, and the distribution moved to the right." ;;
	fixed) echo "How to see it: model_refreshes_total grew, the result was new each second, and was always 0.42." ;;
	esac
	cat <<'END'
What would have noticed it: the finished stack's rules, in stack/prometheus/rules/model.yml.
For answers.md: which of these rules notices each of the three kinds, and after how many minutes?
END
}

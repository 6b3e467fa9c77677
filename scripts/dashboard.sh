# shellcheck shell=sh
# The judge of dashboards, for check.sh, which sources it. It accepts a panel only if it can read each setting
# that matters; a dashboard whose settings it can't read is left to a person.

# json_values: prints a line for each value of the JSON on standard input: its path, a tab, and the value.
# {"a": [{"b": 1}]} becomes a/0/b, a tab, and 1. A control character in a string becomes a blank.
json_values() {
	grep -Eo '"([^"\\]|\\.)*"|[][{}:,]|[^][{}:,"[:space:]]+' | awk '
		/^[[{]$/ { is_list[++depth] = /\[/; is_named[depth] = is_list[depth]; key[depth] = 0; next }
		/^[]}]$/ { depth--; next }
		/^,$/ { if (is_list[depth]) key[depth]++; else is_named[depth] = 0; next }
		/^:$/ { next }
		/^"/ {
			$0 = substr($0, 2, length($0) - 2)
			gsub(/\\\\/, "\001"); gsub(/\\[bfnrt]/, " "); gsub(/\\u003c/, "<"); gsub(/\\u003e/, ">")
			gsub(/\\u0026/, "\\&"); gsub(/\\"/, "\""); gsub(/\\\//, "/"); gsub("\001", "\\\\")
		}
		!is_named[depth] { key[depth] = $0; is_named[depth] = 1; next }
		{
			path = key[1]
			for (i = 2; i <= depth; i++) path = path "/" key[i]
			print path "\t" $0
		}'
}

# judge_dashboard LIMIT UIDS [DESCRIPTION]: reads the JSON of a dashboard and prints three fields with tabs between:
# a score, what is wrong or unknown, and the query. The score is 0 if a panel meets the four requirements, below
# 100 if a person has to look, and otherwise the higher, the more is wrong. LIMIT is the place of the red line, UIDS
# are the data sources that answer model_result (empty: not known), a panel with that DESCRIPTION came with the lab.
judge_dashboard() {
	json_values | uids=" $2 " description=${3-} awk -F '\t' -v limit="$1" '
		{ sub(/^dashboard\//, "", $1); value[$1] = $2; split($1, part, "/") }
		part[1] == "panels" { last = part[2] }
		part[1] ~ /^(elements|spec)$/ { is_other_form = 1 }
		$1 ~ /overrides.*properties.[0-9]+.id$/ && $2 !~ /^(color|displayName|unit|decimals|links)$/ { override[part[2]] = $2 }

		function wrong(is, text) { if (is) { score += 100; reasons = reasons "; " text } }
		function unsure(is, text) { if (is) { score++; reasons = reasons "; " text } }
		function is_on(text) { return text !~ /^(|null|false)$/ }
		function is_number(text, number) { return text ~ /^-?[0-9]/ && (text - number) ^ 2 < 1e-18 }
		# Red has little green and blue, a dark red nearly none: more green is brown, more blue is magenta.
		function is_red(color,   part) {
			color = tolower(color)
			if (color ~ /^rgba?[(]/) {
				gsub(/[^0-9.,]/, "", color)
				if (split(color, part, ",") == 3) part[4] = 1
				color = sprintf("#%02x%02x%02x%02x", part[1], part[2], part[3], 255 * part[4])
			}
			if (color ~ /^#...$/) gsub(/[0-9a-f]/, "&&", color)
			return color ~ /^((semi-dark|dark|light|super-light)-)?red$|^#([c-f].[0-5].[0-5].|[7-b].[01].[01].)([8-f].)?$/
		}
		# The panel at the path p with its query at the path q; n is the number of the panel.
		function judge(n, p, q,   expr, source, d, percent, i, has_red) {
			expr = value[q "expr"]
			source = ((q "datasource/uid") in value ? q : p) "datasource/"
			d = p "fieldConfig/defaults/"
			wrong(expr !~ /^ *model_result *([{][^{}]*[}])? *$/ && expr !~ /^ *[{]([^{}]*,)? *__name__ *= *"model_result" *(,[^{}]*)?[}] *$/,
				"the query is not model_result but " (expr == "" ? "empty" : expr))
			wrong(is_on(value[q "hide"]), "the query is hidden")
			wrong(value[source "type"] !~ /^(prometheus)?$/, "the data source is " value[source "type"])
			unsure(value[source "uid"] ~ /^$|[$]/, "the data source is chosen elsewhere")
			wrong(value[source "uid"] !~ /^$|[$]/ && ENVIRON["uids"] ~ /[^ ]/ && !index(ENVIRON["uids"], " " value[source "uid"] " "),
				"the data source does not answer model_result")
			wrong(value[q "range"] == "false" || is_on(value[q "instant"]) && !is_on(value[q "range"]), "the type of the query is not Range")
			wrong(value[q "format"] !~ /^(time_series)?$/, "the format of the query is not Time series")
			wrong(ENVIRON["description"] != "" && value[p "description"] == ENVIRON["description"], "the panel came with the lab: build one")
			wrong(is_on(value[p "timeFrom"]) || is_on(value[p "timeShift"]), "the panel has a time range of its own (Query options)")
			wrong(!is_number(value[d "min"], 0), "Min is not 0 (Standard options)")
			wrong(!is_number(value[d "max"], 1), "Max is not 1 (Standard options)")
			percent = value[d "thresholds/mode"] == "percentage"
			for (i = 0; (d "thresholds/steps/" i "/color") in value; i++)
				if (is_red(value[d "thresholds/steps/" i "/color"]) &&
					is_number(value[d "thresholds/steps/" i "/value"], percent ? 100 * limit : limit)) has_red = 1
			wrong(!has_red, "no red threshold at " (percent ? 100 * limit " %" : limit) " (Thresholds)")
			wrong(value[d "custom/thresholdsStyle/mode"] !~ /^(line|dashed)/, "the threshold is not a line (Show thresholds: As lines)")
			unsure(n in override, "an override sets " override[n])
			unsure((p "transformations/0/id") in value, "a transformation changes the data")
			unsure(value[d "custom/scaleDistribution/type"] !~ /^(linear)?$/ || value[d "custom/lineWidth"] == "0" ||
				value[d "custom/stacking/mode"] == "percent" || is_on(value[d "custom/hideFrom/viz"]), "the style may hide the graph")
			unsure(is_on(value[p "maxDataPoints"]) || is_on(value[p "interval"]) && value[p "interval"] !~ /^[1-5]s$/ ||
				is_on(value[q "interval"]) && value[q "interval"] !~ /^[1-5]s$/, "the step may leave out results")
		}
		# Keeps what was found out, if it is the best until now, and begins the next panel with what holds for all.
		function keep(query) {
			if (best == "" || score < best) { best = score; found = reasons "\t" query }
			score = score_of_all; reasons = reasons_of_all
		}
		END {
			wrong(value["refresh"] != "5s", "refresh is not 5s (the list next to Refresh)")
			wrong(value["time/from"] != "now-15m" || value["time/to"] != "now",
				"the time range is not Last 15 minutes (tick Update default time range when you save)")
			score_of_all = score; reasons_of_all = reasons
			for (n = 0; last != "" && n <= last; n++) {
				p = "panels/" n "/"
				if ((p "panels/0/id") in value || (p "type") in value == 0) {
					unsure(1, "a closed row or a library panel")
					keep("")
				} else for (i = 0; value[p "type"] == "timeseries" && (i == 0 || (p "targets/" i "/refId") in value); i++) {
					judge(n, p, p "targets/" i "/")
					keep(value[p "targets/" i "/expr"])
				}
			}
			if (best == "" && is_other_form) { score = 0; unsure(1, "this form of dashboards") }
			else wrong(best == "", "no Time series has the query model_result (Add visualization)")
			keep("")
			print best "\t" substr(found, 3)
		}'
}

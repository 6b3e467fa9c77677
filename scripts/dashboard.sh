# shellcheck shell=sh
# Reads JSON, and judges dashboards, for check.sh, which sources this file. It leaves those that it can't read to a
# person. Not every laptop has a program for JSON; Compose reads it, as YAML, but refuses half of a pair of surrogates.

# json_values: prints each value of the JSON on standard input, in a line: its path, a tab, the value. {"a": [{"b": 1}]}
# becomes a/0/b, a tab, and 1. Control characters in strings become blanks.
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
# a score, the reasons, and the query. The score is 0 if a panel meets the four requirements, below 100 if a person
# has to look, and otherwise the higher, the more is wrong. LIMIT is the place of the red line, UIDS are the data
# sources that answer model_result (empty: not known), and a panel with that DESCRIPTION came with the lab.
judge_dashboard() {
	json_values | uids=" $2 " description=${3-} awk -F '\t' -v limit="$1" '
		{ sub(/^dashboard\//, "", $1); value[$1] = $2; split($1, part, "/") }
		part[1] == "panels" { count = part[2] + 1 }
		part[1] ~ /^(elements|spec)$/ { is_other_form = 1 }
		$1 ~ /overrides.*properties.[0-9]+.id$/ && $2 !~ /^(color|displayName|unit|decimals|links)$/ {
			override[part[2]] = $2
		}

		function wrong(is, text) { if (is) { score += 100; reasons = reasons "; " text } }
		function unsure(is, text) { if (is) { score++; reasons = reasons "; " text } }
		function is_on(text) { return text !~ /^(null|false)?$/ }
		function is_number(text, number) {
			return text ~ /^-?[0-9]/ && text - number < 1e-9 && number - text < 1e-9
		}
		function is_step(text) { return !is_on(text) || text ~ /^[1-5]s$/ }
		# Red has little green and blue, a dark red nearly none: more green is brown, more blue is magenta.
		function is_red(color,   part) {
			color = tolower(color)
			if (color ~ /^rgba?[(]/) {
				gsub(/[^0-9.,]/, "", color)
				if (split(color, part, ",") == 3) part[4] = 1
				color = sprintf("#%02x%02x%02x%02x", part[1], part[2], part[3], 255 * part[4])
			}
			if (color ~ /^#...$/) gsub(/[0-9a-f]/, "&&", color)
			return color ~ /^((semi-dark|dark|light|super-light)-)?red$/ ||
				color ~ /^#([c-f].[0-5].[0-5].|[7-b].[01].[01].)([8-f].)?$/
		}
		# The panel number n at the path p with its query at the path q.
		function judge(n, p, q,   expr, type, uid, d, i, line, has_red) {
			expr = value[q "expr"]
			wrong(expr !~ /^ *model_result *([{][^{}]*[}])? *$/ &&
				expr !~ /^ *[{]([^{}]*,)? *__name__ *= *"model_result" *(,[^{}]*)?[}] *$/,
				"the query is not model_result but " (expr == "" ? "empty" : expr))
			wrong(is_on(value[q "hide"]), "the query is hidden")
			type = value[((q "datasource/uid") in value ? q : p) "datasource/type"]
			uid = value[((q "datasource/uid") in value ? q : p) "datasource/uid"]
			wrong(type !~ /^(prometheus)?$/, "the data source is " type)
			unsure(uid ~ /^$|[$]/, "the data source is chosen elsewhere")
			wrong(uid !~ /^$|[$]/ && ENVIRON["uids"] ~ /[^ ]/ && !index(ENVIRON["uids"], " " uid " "),
				"the data source does not answer model_result")
			wrong(value[q "range"] == "false" || is_on(value[q "instant"]) && !is_on(value[q "range"]) ||
				value[q "format"] !~ /^(time_series)?$/, "the query is not of the type Range and the format Time series")
			wrong(ENVIRON["description"] != "" && value[p "description"] == ENVIRON["description"], "it came with the lab")
			wrong(is_on(value[p "timeFrom"]) || is_on(value[p "timeShift"]), "the panel has a time range of its own")

			d = p "fieldConfig/defaults/"
			wrong(!is_number(value[d "min"], 0), "Min is not 0 (Standard options)")
			wrong(!is_number(value[d "max"], 1), "Max is not 1 (Standard options)")
			line = value[d "thresholds/mode"] == "percentage" ? 100 * limit : limit
			for (i = 0; (d "thresholds/steps/" i "/color") in value; i++)
				if (is_red(value[d "thresholds/steps/" i "/color"]) && is_number(value[d "thresholds/steps/" i "/value"], line))
					has_red = 1
			wrong(!has_red, "no red threshold at " line (line == limit ? "" : " %") " (Thresholds)")
			wrong(value[d "custom/thresholdsStyle/mode"] !~ /^(line|dashed)/, "no line (Show thresholds: As lines)")
			unsure(override[n] != "", "an override sets " override[n])
			unsure((p "transformations/0/id") in value, "a transformation changes the data")
			unsure(value[d "custom/scaleDistribution/type"] !~ /^(linear)?$/ || value[d "custom/lineWidth"] == "0" ||
				value[d "custom/stacking/mode"] == "percent" || is_on(value[d "custom/hideFrom/viz"]), "its style may hide it")
			unsure(is_on(value[p "maxDataPoints"]) || !is_step(value[p "interval"]) || !is_step(value[q "interval"]),
				"its step may leave out results")
		}
		# Keeps the result, if it is the best until now. The next panel starts with the problems of the whole dashboard.
		function keep(query) {
			if (best == "" || score < best) { best = score + 0; found = reasons "\t" query }
			score = score_of_all; reasons = reasons_of_all
		}
		END {
			wrong(value["refresh"] != "5s", "refresh is not 5s (the list next to Refresh)")
			wrong(value["time/from"] != "now-15m" || value["time/to"] != "now",
				"the time range is not Last 15 minutes (tick Update default time range when you save)")
			score_of_all = score; reasons_of_all = reasons
			for (n = 0; n < count; n++) {
				p = "panels/" n "/"
				if ((p "panels/0/id") in value || !((p "type") in value)) {
					unsure(!((p "type") in value), "a library panel")
					wrong((p "type") in value, "a row is closed")
					keep("")
				}
				for (i = 0; value[p "type"] == "timeseries" && (i == 0 || (p "targets/" i "/refId") in value); i++) {
					judge(n, p, p "targets/" i "/")
					keep(value[p "targets/" i "/expr"])
				}
			}
			if (best == "") {
				if (is_other_form) { score = 1; reasons = "; another form of dashboards" }
				else wrong(1, "no Time series has the query model_result (Add visualization)")
				keep("")
			}
			sub(/^; /, "", found)
			print best "\t" found
		}'
}

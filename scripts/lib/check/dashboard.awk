# Judges a dashboard. judge_dashboard in grafana.sh runs this program, which reads the lines of json_values, in which
# \036 is a new line, and prints three fields with tabs between: a score, the reasons, and the query. The score is 0 if
# a panel meets the four requirements, below 100 if a person has to look, and otherwise higher for each mistake.
# From the environment: limits, the places that the red line may have; sources, the data sources that answer
# model_result, in lines of load_sources (empty: not known); description, that of the panel that came with the lab.

function wrong(is, text) {
	if (is) {
		score += 100
		reasons = reasons "; " text
	}
}

function unsure(is, text) {
	if (is) {
		score++
		reasons = reasons "; " text
	}
}

function is_on(text) {
	return text !~ /^(null|false)?$/
}

function is_number(text, number) {
	return text ~ /^-?[0-9]/ && text - number < 1e-9 && number - text < 1e-9
}

# seconds: a time such as 5s or 500ms in seconds; -1 for another text, such as a variable.
function seconds(text) {
	sub(/^>=?/, "", text)
	if (text !~ /^[0-9]+([.][0-9]+)?(ms|s|m|h|d)$/)
		return -1
	return (text + 0) * (text ~ /ms$/ ? 0.001 : text ~ /s$/ ? 1 : text ~ /m$/ ? 60 : text ~ /h$/ ? 3600 : 86400)
}

# is_red: red has little green and blue, a dark red nearly none: more green is brown, more blue is magenta.
function is_red(color,   part) {
	color = tolower(color)
	if (color ~ /^rgba?[(]/) {
		gsub(/[^0-9.,]/, "", color)
		if (split(color, part, ",") == 3)
			part[4] = 1
		color = sprintf("#%02x%02x%02x%02x", part[1], part[2], part[3], 255 * part[4])
	}
	if (color ~ /^#...$/)
		gsub(/[0-9a-f]/, "&&", color)
	return color ~ /^((semi-dark|dark|light|super-light)-)?red$/ ||
		color ~ /^#([c-f].[0-5].[0-5].|[7-b].[01].[01].)([8-f].)?$/
}

# plain: the query without comments, in one line.
function plain(query,   n, c, quote, result) {
	for (n = 1; n <= length(query); n++) {
		c = substr(query, n, 1)
		if (quote == "" && c == "#") {
			while (n < length(query) && substr(query, n + 1, 1) != "\036")
				n++
			continue
		}
		if (quote == "" && c ~ /["'`]/)
			quote = c
		else if (c == quote)
			quote = ""
		result = result (c == "\036" ? " " : c)
	}
	gsub(/^ +| +$/, "", result)
	while (result ~ /^[(].*[)]$/ && substr(result, 2) !~ /[(]/) {
		result = substr(result, 2, length(result) - 2)
		gsub(/^ +| +$/, "", result)
	}
	return result
}

# is_result: whether the query selects model_result, with any labels.
function is_result(query) {
	gsub(/'/, "\"", query)
	gsub(/"model_result"/, "\002", query)
	gsub(/"([^"\\]|\\.)*"/, "text", query)
	return query ~ /^model_result *([{][^{}]*[}])?$/ ||
		query ~ /^[{]([^{}]*,)? *((__name__|text) *= *)?\002 *(,[^{}]*)?[}]$/ && query !~ /text *= *\002/
}

# judge_source: the data source at that place of the panel or the query.
function judge_source(place,   name, n, i, found) {
	name = value[place "datasource"]
	if ((place "datasource/uid") in value || (place "datasource/type") in value)
		name = value[place "datasource/uid"]
	if (value[place "datasource/type"] !~ /^(prometheus)?$/ && name !~ /^-- /) {
		wrong(1, "the data source is " value[place "datasource/type"])
		return
	}
	if (name ~ /^[$]/) {
		gsub(/[${}]/, "", name)
		for (n = 0; ("templating/list/" n "/name") in value && !found; n++)
			if (value["templating/list/" n "/name"] == name)
				found = "templating/list/" n "/current/value"
		if (!found) {
			wrong(1, "the data source is the variable " name ", which the dashboard lacks")
			return
		}
		unsure(1, "the data source is the variable " name)
		return
	}
	if (name == "null" || name == "default")
		name = ""
	for (i = 1; i <= source_count; i++)
		if (name == uid_of[i] || name == name_of[i] || (name == "" && is_default[i]))
			return
	if (name == "")
		unsure(1, "the data source is chosen elsewhere")
	else
		wrong(source_count, "the data source does not answer model_result")
}

# applies: whether an override is for the query at q: 1, 0, or 2 if that isn't known.
function applies(override, q,   id, option, legend) {
	id = value[override "matcher/id"]
	option = value[override "matcher/options"]
	legend = value[q "legendFormat"]
	if (id == "byType")
		return option == "number"
	if (id ~ /^(byFrameRefID|byQuery)$/)
		return option == value[q "refId"]
	if (id == "byRegexp" && option ~ /^\/?\.[*+]\/?$/)
		return 1
	if (id == "byName")
		return option == legend ? 1 : legend ~ /[{]|auto/ || option ~ /^model_result/ ? 2 : 0
	return 2
}

# find_settings: sets setting[NAME] to the place of that setting for the query at q: the panel's, or an override's.
function find_settings(p, q,   n, i, override, property, id, is_for) {
	setting["min"] = p "fieldConfig/defaults/min"
	setting["max"] = p "fieldConfig/defaults/max"
	setting["thresholds"] = p "fieldConfig/defaults/thresholds"
	setting["custom.thresholdsStyle"] = p "fieldConfig/defaults/custom/thresholdsStyle"
	setting["custom.axisSoftMin"] = p "fieldConfig/defaults/custom/axisSoftMin"
	setting["custom.axisSoftMax"] = p "fieldConfig/defaults/custom/axisSoftMax"
	for (n = 0; n < overrides[p]; n++) {
		override = p "fieldConfig/overrides/" n "/"
		is_for = applies(override, q)
		for (i = 0; (override "properties/" i "/id") in value; i++) {
			property = override "properties/" i "/"
			id = value[property "id"]
			if (!is_for || id ~ /^(color|displayName|unit|decimals|links)$/)
				continue
			if (is_for == 1 && id in setting)
				setting[id] = property "value"
			else
				unsure(1, "an override sets " id)
			if (is_for == 2)
				is_doubtful[id] = 1
		}
	}
}

# must: a requirement of a setting; an override that may be for the query leaves it open.
function must(is, name, text) {
	if (!(name in is_doubtful))
		wrong(!is, text)
}

# limit_of: a limit of the axis; without it, the soft limit, which no result exceeds.
function limit_of(name, soft) {
	return is_on(value[setting[name]]) ? value[setting[name]] : value[setting[soft]]
}

# judge_limits: the axis and the red line of a panel of the type Time series.
function judge_limits(p, q,   t, i, line, n, at, has_red, style, id) {
	for (id in setting) delete setting[id]
	for (id in is_doubtful) delete is_doubtful[id]
	find_settings(p, q)
	must(is_number(limit_of("min", "custom.axisSoftMin"), 0),
		"min", "Min is not 0 (Standard options)")
	must(is_number(limit_of("max", "custom.axisSoftMax"), 1),
		"max", "Max is not 1 (Standard options)")
	t = setting["thresholds"] "/"
	for (i = 0; (t "steps/" i "/color") in value; i++) {
		if (!is_red(value[t "steps/" i "/color"]) || value[t "steps/" i "/value"] !~ /^-?[0-9]/)
			continue
		at = value[t "steps/" i "/value"]
		for (n = 1; n <= limit_count; n++)
			if (is_number(at, limit[n] * (value[t "mode"] == "percentage" ? 100 : 1)))
				has_red = 1
	}
	line = limit[1] * (value[t "mode"] == "percentage" ? 100 : 1) (value[t "mode"] == "percentage" ? " %" : "")
	must(has_red, "thresholds", "no red threshold at " line (at == "" ? "" : ", it is at " at) " (Thresholds)")
	style = value[setting["custom.thresholdsStyle"] "/mode"]
	must(style ~ /^(line|dashed)/, "custom.thresholdsStyle", "no line (Show thresholds: As lines)")
}

# judge_old_limits: the axis and the red line of a panel of the older type graph, which Grafana shows as Time series.
function judge_old_limits(p,   i, n, t, has_red) {
	wrong(!is_number(value[p "yaxes/0/min"], 0), "Min is not 0 (Standard options)")
	wrong(!is_number(value[p "yaxes/0/max"], 1), "Max is not 1 (Standard options)")
	for (i = 0; (p "thresholds/" i "/value") in value; i++) {
		t = p "thresholds/" i "/"
		for (n = 1; n <= limit_count; n++)
			if (is_number(value[t "value"], limit[n]) && value[t "line"] != "false" &&
				(value[t "colorMode"] == "critical" || is_red(value[t "lineColor"])))
				has_red = 1
	}
	wrong(!has_red, "no red threshold at " limit[1] " (Thresholds)")
	unsure(value[p "lines"] == "false" || is_on(value[p "percentage"]), "its style may hide it")
}

# judge: the panel at p with its query at q.
function judge(p, q,   query, type, d, step, factor, text, points) {
	query = plain(value[q "expr"])
	wrong(!is_result(query), "the query is not model_result but " (query == "" ? "empty" : query))
	wrong(is_on(value[q "hide"]), "the query is hidden")
	judge_source(((q "datasource") in value || (q "datasource/uid") in value || (q "datasource/type") in value) ? q : p)
	wrong(value[q "range"] == "false" || (is_on(value[q "instant"]) && !is_on(value[q "range"])) ||
		value[q "format"] !~ /^(time_series)?$/, "the query is not of the type Range and the format Time series")
	wrong(ENVIRON["description"] != "" && value[p "description"] == ENVIRON["description"], "it came with the lab")
	wrong(is_on(value[p "timeFrom"]) || is_on(value[p "timeShift"]), "the panel has a time range of its own")
	if (value[p "type"] == "graph")
		judge_old_limits(p)
	else
		judge_limits(p, q)
	unsure((p "transformations/0/id") in value, "a transformation changes the data")
	d = p "fieldConfig/defaults/"
	unsure(value[d "custom/scaleDistribution/type"] !~ /^(linear)?$/ || value[d "custom/lineWidth"] == "0" ||
		value[d "custom/stacking/mode"] == "percent" || is_on(value[d "custom/hideFrom/viz"]), "its style may hide it")
	text = is_on(value[q "interval"]) ? value[q "interval"] : is_on(value[p "interval"]) ? value[p "interval"] : "5s"
	factor = value[q "intervalFactor"] ~ /^[0-9]/ ? value[q "intervalFactor"] : 1
	step = seconds(text) * factor
	points = value[p "maxDataPoints"] ~ /^[0-9]/ ? value[p "maxDataPoints"] : 0
	if (step >= 0 && points > 0 && 900 / points > step)
		step = 900 / points
	unsure(step < 0, "its step is " text)
	wrong(step > 5.01, "its step of " step " s leaves out results (Query options: Min interval)")
}

# keep: keeps the result, if it is the best until now. The next panel starts with the problems of the whole dashboard.
function keep(query) {
	if (best == "" || score < best) {
		best = score + 0
		found = reasons "\t" query
	}
	score = score_of_all
	reasons = reasons_of_all
}

BEGIN {
	FS = "\t"
	limit_count = split(ENVIRON["limits"], limit, " ")
	lines = split(ENVIRON["sources"], line, "\n")
	for (n = 1; n <= lines; n++)
		if (split(line[n], part, "\t") > 2) {
			uid_of[++source_count] = part[1]
			name_of[source_count] = part[3]
			is_default[source_count] = part[5] == "default"
		}
}
{
	sub(/^dashboard\//, "", $1)
	value[$1] = substr($0, length($1) + 2)
	split($1, part, "/")
}
part[1] == "panels" { count = part[2] + 1 }
part[1] ~ /^(elements|spec|rows)$/ { is_other_form = 1 }
part[1] == "panels" && part[3] == "fieldConfig" && part[4] == "overrides" {
	overrides["panels/" part[2] "/"] = part[5] + 1
}
END {
	wrong(seconds(value["refresh"]) != 5,
		"refresh is not 5s (the list next to Refresh; tick Update default refresh value when you save)")
	wrong(value["time/from"] !~ /^now-/ || seconds(substr(value["time/from"], 5)) != 900 || value["time/to"] != "now",
		"the time range is not Last 15 minutes (tick Update default time range when you save)")
	score_of_all = score
	reasons_of_all = reasons
	for (n = 0; n < count; n++) {
		p = "panels/" n "/"
		if ((p "panels/0/id") in value || !((p "type") in value)) {
			unsure(!((p "type") in value), "a library panel")
			wrong((p "type") in value, "a row is closed")
			keep("")
		}
		for (i = 0; value[p "type"] ~ /^(timeseries|graph)$/ && (i == 0 || (p "targets/" i "/refId") in value); i++) {
			judge(p, p "targets/" i "/")
			keep(plain(value[p "targets/" i "/expr"]))
		}
	}
	if (best == "") {
		if (is_other_form) {
			score = 1
			reasons = "; another form of dashboards"
		} else
			wrong(1, "no Time series has the query model_result (Add visualization)")
		keep("")
	}
	sub(/^; /, "", found)
	print best "\t" found
}

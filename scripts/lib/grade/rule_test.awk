# Writes unit tests for promtool, with results that are drawn from a seed: awk -v seed=N -v folder=F -f rule_test.awk
#
# F/rise.yml, F/narrow.yml and F/split.yml have 20 minutes each of a model that drifts for 600 s in that way.
# F/quiet-1.yml and F/quiet-2.yml have a day each without drift. A test passes if the alert ModelResultDrift fires
# during the drift, or never on the quiet day.
#
# With any seed, equal rules should get the same verdict, so series that decide by luck are drawn again. During each
# drift, the distance from evenly spread results, as Kolmogorov and Smirnov measure it (KS), is above 0.19, and the
# population stability index (PSI) of fifths is above 0.25, well before the 20 minutes are over. On a quiet day, neither
# is, nor is the mean above 0.6; but KS is above 0.15 for more than a minute, so that a nervous rule fires.

BEGIN {
	if (folder == "")
		exit
	INTERVAL = 5
	DRIFT = 600
	WINDOW = 119 # the results that rate() sees in 10 minutes
	WARM_UP = 100
	MINUTE = 14 # results, a little more than a minute
	IN_TIME = 225
	state = seed % 2147483646 + 1
	# The first numbers of small seeds are small.
	for (i = 0; i < 20; i++)
		draw()
	make("rise", 241)
	make("narrow", 241)
	make("split", 241)
	make("quiet-1", 17280)
	make("quiet-2", 17280)
}

# make: writes the test of that name, with that many results.
function make(name, count) {
	do
		draw_results(name, count)
	while (name ~ /^quiet/ ? !is_quiet(count) : !is_found(count))
	write_test(name, count)
}

# draw: a number from 0 to 1 in steps of a millionth, as the model draws it, but by Lehmer's generator.
function draw() {
	state = state * 16807 % 2147483647
	return int(state / 2147483647 * 1000001) / 1e6
}

# draw_results: sets result and bucket, from 1 on, with the model's formula of a drift.
function draw_results(kind, count, n, part, value, target) {
	for (n = 1; n <= count; n++) {
		value = draw()
		target = kind == "rise" ? 1 : kind == "narrow" ? 0.5 : value >= 0.5
		part = kind ~ /^quiet/ ? 0 : (n - 1) * INTERVAL < DRIFT ? 0.5 * (n - 1) * INTERVAL / DRIFT : 0.5
		result[n] = value + part * (target - value)
		bucket[n] = int(result[n] * 10) + 1
		if (bucket[n] > 1 && result[n] <= (bucket[n] - 1) / 10)
			bucket[n]--
	}
}

# is_found: whether a right rule finds the drift in time.
function is_found(count, n, minute) {
	clear_window()
	for (n = 1; n <= IN_TIME; n++) {
		add_to_window(n)
		minute = size >= WARM_UP && ks_distance() > 0.19 && stability_index() > 0.25 ? minute + 1 : 0
		if (minute >= MINUTE)
			return 1
	}
	return 0
}

# is_quiet: whether a right rule has no reason to fire on that day, and a nervous one has.
function is_quiet(count, n, ks, minute, is_nervous, next_look) {
	clear_window()
	for (n = 1; n <= count; n++) {
		add_to_window(n)
		if (size < WARM_UP || n < next_look)
			continue
		ks = ks_distance()
		if (ks > 0.19 || sum_of_window / size > 0.6 || stability_index() > 0.25)
			return 0
		minute = ks > 0.15 ? minute + 1 : 0
		if (minute >= MINUTE)
			is_nervous = 1
		# A result changes the distance by at most 1 / size.
		next_look = n + (ks < 0.12 ? 3 : 1)
	}
	return is_nervous
}

# clear_window: the window are the results of the last 10 minutes, as in_bucket, size and sum_of_window.
function clear_window(i) {
	for (i = 1; i <= 10; i++)
		in_bucket[i] = 0
	size = sum_of_window = 0
}

function add_to_window(n) {
	in_bucket[bucket[n]]++
	sum_of_window += result[n]
	size++
	if (size > WINDOW) {
		in_bucket[bucket[n - WINDOW]]--
		sum_of_window -= result[n - WINDOW]
		size--
	}
}

function ks_distance(i, sum, distance, most) {
	for (i = 1; i < 10; i++) {
		sum += in_bucket[i]
		distance = sum / size - i / 10
		if (distance < 0)
			distance = -distance
		if (distance > most)
			most = distance
	}
	return most
}

function stability_index(i, count, share, sum) {
	for (i = 1; i <= 10; i += 2) {
		count = in_bucket[i] + in_bucket[i + 1]
		if (!((size, count) in part_of_index)) {
			share = count / size
			part_of_index[size, count] = (share - 0.2) * ln((share < 0.01 ? 0.01 : share) / 0.2)
		}
		sum += part_of_index[size, count]
	}
	return sum
}

# ln: the natural logarithm, which some builds of BusyBox lack.
function ln(value, halvings, ratio, power, n, sum) {
	for (halvings = 0; value > 1.5; halvings++)
		value /= 2
	for (; value < 0.75; halvings--)
		value *= 2
	ratio = (value - 1) / (value + 1)
	power = ratio
	for (n = 1; n < 20; n += 2) {
		sum += 2 * power / n
		power *= ratio * ratio
	}
	return sum + halvings * 0.6931471805599453
}

# write_test: the series that Prometheus would have scraped, a sample for each result. Each sample is printed as soon as
# it is known: to collect a day in a string takes some awks a minute.
function write_test(name, count, i, n, at_most) {
	file = folder "/" name ".yml"
	print "rule_files: [/rules/*.yml]" >file
	print "evaluation_interval: " INTERVAL "s" >file
	print "tests:" >file
	print "  - interval: " INTERVAL "s" >file
	print "    input_series:" >file
	begin_series("model_result", "")
	for (n = 1; n <= count; n++)
		printf " %.6f", result[n] >file
	end_series()
	write_histogram(count)
	write_summary(count)
	write_steps("model_refreshes_total", "", "1+1x" count - 1)
	write_steps("model_last_refresh_timestamp_seconds", "", "0+" INTERVAL "x" count - 1)
	write_steps("up", "", "1x" count - 1)
	print "    promql_expr_test:" >file
	print "      - expr: |" >file
	print "          count(" >file
	print "            count_over_time(ALERTS{alertname=\"ModelResultDrift\", alertstate=\"firing\"}[2d])" >file
	print "          ) > bool 0" >file
	print "          or vector(0)" >file
	print "        eval_time: " (count - 1) * INTERVAL "s" >file
	print "        exp_samples: [{labels: \"{}\", value: " (name ~ /^quiet/ ? 0 : 1) "}]" >file
	close(file)
}

function begin_series(metric, labels) {
	printf "      - series: %s{job=\"model_mock\", instance=\"localhost:5000\"%s}\n", metric, labels >file
	printf "        values: \"" >file
}

function end_series() {
	print "\"" >file
}

# write_steps: a series in promtool's short form: start, step, and how many more.
function write_steps(metric, labels, steps) {
	begin_series(metric, labels)
	printf "%s", steps >file
	end_series()
}

function write_sum(metric, count, n, sum) {
	begin_series(metric, "")
	for (n = 1; n <= count; n++) {
		sum += result[n]
		printf " %.6f", sum >file
	}
	end_series()
}

function write_histogram(count, i, n, at_most) {
	for (i = 1; i <= 10; i++) {
		begin_series("model_result_distribution_bucket", sprintf(", le=\"%.1f\"", i / 10))
		at_most = 0
		for (n = 1; n <= count; n++) {
			at_most += (bucket[n] <= i)
			printf " %d", at_most >file
		}
		end_series()
	}
	write_steps("model_result_distribution_bucket", ", le=\"+Inf\"", "1+1x" count - 1)
	write_sum("model_result_distribution_sum", count)
	write_steps("model_result_distribution_count", "", "1+1x" count - 1)
}

function write_summary(count) {
	write_quantile(0.5, count)
	write_quantile(0.9, count)
	write_quantile(0.99, count)
	write_sum("model_result_recent_sum", count)
	write_steps("model_result_recent_count", "", "1+1x" count - 1)
}

# write_quantile: of the latest 180 results, by nearest rank, rounded up to a thousandth. It follows the place of the
# quantile among the thousandths: below is the number of results in smaller ones.
function write_quantile(quantile, count, n, place, below, rank, number, in_place) {
	place = 0
	begin_series("model_result_recent", ", quantile=\"" quantile "\"")
	for (n = 1; n <= count; n++) {
		place_of[n] = int(result[n] * 1000 + 0.999999)
		in_place[place_of[n]]++
		below += (place_of[n] < place)
		number = n
		if (n > 180) {
			in_place[place_of[n - 180]]--
			below -= (place_of[n - 180] < place)
			number = 180
		}
		rank = int(quantile * number)
		if (rank < quantile * number)
			rank++
		while (below + in_place[place] < rank)
			below += in_place[place++]
		while (below >= rank)
			below -= in_place[--place]
		printf " %.3f", place / 1000 >file
	}
	end_series()
}

# Compares the results in hand-ins with those that the model draws:
# awk -v max=N -f runs.awk SEED.results... HANDIN.txt...
#
# Prints lines of three words. HANDIN is its number in the list.
#   HANDIN seed N      N % of its results belong to its number; the word - if there is nothing to compare
#   HANDIN flag NAME
#   HANDIN shares OTHER-HANDIN   it has results of the other one's model: the same values at the same times
#
# A run of the model ends when the count of its results starts again. Results that are equal to the one before or after
# are those of --value: they say nothing about the seed, and many students have them at the same time.

FNR == 1 {
	end_run()
	is_drawn = FILENAME ~ /results$/
	name = FILENAME
	gsub(/.*\/|[.-].*/, "", name)
	if (is_drawn)
		seed = name
	else {
		hand_in = name
		hand_ins[++hand_in_count] = hand_in
	}
}
is_drawn {
	if ($2 == "model_result" && count_drawn[seed] < max)
		drawn[seed, ++count_drawn[seed]] = $3
	next
}
/^number: [0-9]+$/ && length($2) <= 18 {
	seed_of[hand_in] = $2
	sub(/^0+/, "", seed_of[hand_in])
	if (seed_of[hand_in] == "")
		seed_of[hand_in] = "0"
}
/^first-scrape: / { first_scrape[hand_in] = $2 }
/^sample: [0-9.]+ [0-9]+ [0-9.e-]+$/ && length($3) <= 9 {
	if (size && $3 + 0 <= number[size])
		end_run()
	size++
	at[size] = $2
	number[size] = $3 + 0
	value[size] = $4
}
END {
	end_run()
	for (i = 1; i <= hand_in_count; i++)
		judge(hand_ins[i])
	for (pair in shared) {
		split(pair, part, SUBSEP)
		if (is_copy(part[1], part[2])) {
			print part[1], "shares", part[2]
			print part[2], "shares", part[1]
		}
	}
}

function judge(i) {
	if (samples[i] == 0)
		print i, "flag", "no-results"
	else if (varied[i] == 0)
		print i, "flag", "only-value"
	else if (checked[i] > 0 && !has_match[i])
		print i, "flag", "not-its-seed"
	if (fast[i] * 2 > paced[i])
		print i, "flag", "too-fast"
	print i, "seed", (checked[i] > 0 ? int(100 * matched[i] / checked[i]) : "-")
}

# is_copy: whether the results that two hand-ins share can't be chance. The models of two numbers never agree. Those of
# one number do if they started within the same 5 s, as in a class: then all runs, and the first scrape, must agree.
function is_copy(a, b, fewer) {
	if (shared[a, b] < 3)
		return 0
	if (seed_of[a] != seed_of[b])
		return 1
	fewer = varied[a] < varied[b] ? varied[a] : varied[b]
	return shared[a, b] >= 0.9 * fewer && first_scrape[a] == first_scrape[b]
}

# end_run: adds the run to the figures of its hand-in.
function end_run(n, key, duration, results, equal, compared, drifted) {
	if (size == 0)
		return
	samples[hand_in] += size
	duration = at[size] - at[1]
	results = number[size] - number[1]
	paced[hand_in] += results
	if (results >= 3 && results > 0.3 * duration)
		fast[hand_in] += results
	for (n = 1; n <= size; n++) {
		is_varied[n] = !(n > 1 && value[n] == value[n - 1]) && !(n < size && value[n] == value[n + 1])
		if (!is_varied[n])
			continue
		varied[hand_in]++
		key = at[n] " " number[n] " " value[n]
		if (!(key in owner))
			owner[key] = hand_in
		else if (owner[key] != hand_in)
			shared[owner[key], hand_in]++
		if ((seed_of[hand_in], number[n]) in drawn) {
			compared++
			equal += is_close(value[n], drawn[seed_of[hand_in], number[n]], 6e-7)
		}
	}
	if (compared > 0) {
		drifted = drift_matches(size, "rise")
		if (drifted < drift_matches(size, "narrow"))
			drifted = drift_matches(size, "narrow")
		if (drifted < drift_matches(size, "split"))
			drifted = drift_matches(size, "split")
		# Chance alone lets some results look as if they had drifted, but never most of them.
		if (drifted < 5 || drifted < 0.8 * compared)
			drifted = 0
		if (equal < drifted)
			equal = drifted
		if (equal * 2 >= compared)
			has_match[hand_in] = 1
		checked[hand_in] += compared
		matched[hand_in] += equal
	}
	size = 0
}

# drift_matches: how many results of the run are those of the number after a drift of that kind. A drift moves a result
# a part of the way to its target; that part never falls, and is at most a half.
function drift_matches(size, kind, n, before, target, part, reached, matches) {
	for (n = 1; n <= size; n++) {
		if (!is_varied[n] || !((seed_of[hand_in], number[n]) in drawn))
			continue
		before = drawn[seed_of[hand_in], number[n]]
		target = kind == "rise" ? 1 : kind == "narrow" ? 0.5 : before >= 0.5 ? 1 : 0
		if (is_close(before, target, 0.01)) {
			matches += is_close(value[n], before, 0.01)
			continue
		}
		part = (value[n] - before) / (target - before)
		if (part >= reached - 0.001 && part < 0.501) {
			matches++
			reached = part
		}
	}
	return matches + 0
}

function is_close(a, b, difference) {
	return a - b < difference && b - a < difference
}

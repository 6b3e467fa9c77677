# What a YAML file of a hand-in is, a word a line: rule (it has the alert ModelResultDrift), groups (a file of rules),
# config (of Prometheus: it names files of rules), test (a unit test that names ModelResultDrift). YAML has several
# notations for a key: "alert" and 'alert', with a dash or a brace before it.

/^ *#/ { next }
/(^|[{, -])["']?alert["']? *: *["']?ModelResultDrift["']? *([,}#]|$)/ { has["rule"] = 1 }
/^["']?groups["']? *:/ { has["groups"] = 1 }
/^ *["']?rule_files["']? *:/ { has["config"] = 1 }
/^["']?tests["']? *:/ { is_test = 1 }
/ModelResultDrift/ { is_named = 1 }
END {
	if (is_test && is_named)
		has["test"] = 1
	for (kind in has)
		print kind
}

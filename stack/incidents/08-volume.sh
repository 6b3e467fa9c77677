# shellcheck shell=sh
# shellcheck disable=SC2034,SC2154 # scripts/incident.sh reads and sets these
# The volume is mounted in a folder into which Prometheus doesn't write.

notice() {
	cat <<'END'
"After each docker compose down and up -d, the history of all graphs is gone. We do have a volume, it is in
compose.yaml. The dashboards and the mails are still there."
END
}

plant() {
	replace compose.yaml '- prometheus-data:/prometheus' '- prometheus-data:/data'
}

# kept: the named volume or folder of this machine into which Prometheus writes its samples, if any. A volume without a
# name has 64 digits for one, and is gone after docker compose down.
kept() {
	samples=$(get "$(url prometheus)/api/v1/status/flags" | json_values | values 'data/storage.tsdb.path')
	docker inspect -f '{{range .Mounts}}{{printf "%s\t%s\t%s\n" .Destination .Type .Name}}{{end}}' \
		"$(in_copy ps -q prometheus)" |
		awk -F '\t' -v samples="$samples/" '
			index(samples, $1 "/") == 1 && length($1) > longest {
				longest = length($1)
				is_kept = $2 == "bind" || ($2 == "volume" && !(length($3) == 64 && $3 ~ /^[0-9a-f]+$/))
			}
			END { if (is_kept) print samples }'
}

is_visible() {
	get -o /dev/null "$(readiness prometheus)" && [ -z "$(kept)" ]
}

is_repaired() {
	[ -n "$(kept)" ]
}

hints() {
	cat <<'END'
Into which folder does Prometheus write its samples, and which volume is mounted there? Look at both in compose.yaml.
docker volume ls shows a volume whose name is a long number: which container uses it, and for which folder?
In compose.yaml, prometheus-data is mounted at /data, and --storage.tsdb.path is /prometheus.
END
}

story() {
	cat <<'END'
What happened: the named volume was mounted at /data, and the samples were in /prometheus. The image asks for a volume
there; without a name in compose.yaml, Docker makes one without a name. docker compose down leaves that one behind, and
the next up -d makes another.
How to see it: docker inspect, at Mounts, shows which volume is mounted in which folder.
What would have prevented it: proving it once: docker compose down, up -d, then a graph of yesterday.
For answers.md: which of your own containers lose data with docker compose down, and which data?
END
}

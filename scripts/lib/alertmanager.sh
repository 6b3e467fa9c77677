# shellcheck shell=sh
# Questions to the Alertmanager at $alertmanager, for the scripts that source this file: check.sh and incident.sh.
# shellcheck disable=SC2154 # they set it

# alertmanager_config: Alertmanager's configuration, as it has read it.
alertmanager_config() {
	get "$alertmanager/api/v2/status" 2>/dev/null | awk '{
		sub(/.*"original":"/, "")
		if (match($0, /[^\\]"[},]/)) $0 = substr($0, 1, RSTART)
		gsub(/\\n/, "\n")
		print
	}'
}

# has_address NAME: whether that receiver of Alertmanager sends its alerts anywhere.
has_address() {
	alertmanager_config | name="- name: $1" awk '
		/^- name: / { here = $0 == ENVIRON["name"] }
		here && /^  [a-z]+_configs:/ { found = 1 }
		END { exit !found }'
}

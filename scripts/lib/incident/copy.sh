# shellcheck shell=sh
# The copy of the finished stack that an incident breaks: its files, containers and volumes. incident.sh sources this
# file; its variables are $folder, $state and $copy_project.
# shellcheck disable=SC2154 # incident.sh and common.sh set these

# fact NAME: what this incident noted under that name; empty if it didn't.
fact() {
	cat "$state/$1" 2>/dev/null
}

# note NAME TEXT: replaces that fact.
note() {
	if ! printf '%s\n' "$2" >"$state/$1.new" || ! mv "$state/$1.new" "$state/$1"; then
		die "cannot write $state/$1: make the folder writable, or the disk less full"
	fi
}

# require_harmless_files: dies if the finished stack's files would make the copy send mails or samples elsewhere.
require_harmless_files() {
	awk '
		/^ *#/ { next }
		/_configs:/ && !/email_configs:/ { exit 1 }
		/smarthost:/ && !/(localhost|127[.]0[.]0[.]1):/ { exit 1 }
	' "$root/stack/alertmanager/alertmanager.yml" ||
		die "stack/alertmanager/alertmanager.yml notifies people, and an incident sends many mails: restore the lab's" \
			"receiver, then try again"
	! grep -q '^[^#]*remote_write:' "$root/stack/prometheus/prometheus.yml" ||
		die "stack/prometheus/prometheus.yml sends samples to another machine: remove remote_write:, then try again"
}

# copy_files: writes the finished stack's files into the copy, over changed ones. The copy scrapes neither the models of
# a class nor the laptop itself.
copy_files() {
	for part in prometheus alertmanager grafana; do
		cp -R "$root/stack/$part" "$folder/" || die "cannot write $folder: see the output above"
	done
	rm -f "$folder"/alertmanager/*password* "$folder/prometheus/machine.yml"
	for targets in "$root"/stack/prometheus/targets/*.y*ml; do
		grep '^#' "$targets" >"$folder/prometheus/targets/${targets##*/}"
	done
	# In a kit without Grafana, docker compose up -d must not ask for its image.
	name=$copy_project wanted=$wanted awk '
		/^name:/ { $0 = "name: " ENVIRON["name"] }
		{ print }
		/^  grafana:/ && ENVIRON["wanted"] !~ /grafana/ { print "    profiles: [not-in-this-kit]" }
	' "$root/stack/compose.yaml" >"$folder/compose.yaml" || die "cannot write $folder/compose.yaml: is the disk full?"
	# The services run as users of their own.
	chmod -R a+rX "$folder/compose.yaml" "$folder/prometheus" "$folder/alertmanager" "$folder/grafana"
}

# replace FILE OLD NEW: in a file of the copy, replaces the first OLD, a text within one line.
replace() {
	old=$2 new=$3 awk '
		!found && (i = index($0, ENVIRON["old"])) {
			$0 = substr($0, 1, i - 1) ENVIRON["new"] substr($0, i + length(ENVIRON["old"]))
			found = 1
		}
		{ print }
		END { exit !found }
	' "$folder/$1" >"$state/replaced" || die "the incident doesn't fit stack/$1, which lacks '$2': restore that file"
	# The same file, so that a mount of it stays valid.
	cat "$state/replaced" >"$folder/$1" || die "cannot write $folder/$1: is the disk full?"
}

# in_copy ARGUMENT...: Compose for the copy, as docker compose in its folder.
in_copy() (
	cd "$folder" || exit
	unset COMPOSE_FILE COMPOSE_PROFILES COMPOSE_ENV_FILES
	GRAFANA_PASSWORD=$(fact password)
	export GRAFANA_PASSWORD COMPOSE_PROJECT_NAME="$copy_project"
	docker compose "$@"
)

# things KIND: the containers, volumes or networks of the copy; KIND is ps -a, volume ls or network ls.
things() {
	# shellcheck disable=SC2086 # words
	docker $1 -q --filter "label=com.docker.compose.project=$copy_project"
}

# note_volumes: notes the volumes without a name that the copy's containers have now: a container that is replaced may
# leave them behind, and they don't tell whose they were.
note_volumes() {
	# shellcheck disable=SC2046 # words
	mounted=$(docker inspect -f '{{range .Mounts}}{{println .Name}}{{end}}' $(things "ps -a") 2>/dev/null)
	note volumes "$(printf '%s\n' "$(fact volumes)" "$mounted" | tr ' ' '\n' | grep -xE '[0-9a-f]{64}' | sort -u |
		paste -s -d ' ' -)"
}

# remove_things: removes the copy's containers, volumes and networks, also those that its files don't name any longer.
remove_things() {
	for kind in "ps -a" "volume ls" "network ls"; do
		found=$(things "$kind")
		# shellcheck disable=SC2086 # words
		case $found,$kind in
		,*) ;;
		*,ps*) docker rm -f -v $found ;;
		*) docker "${kind% ls}" rm $found ;;
		esac >/dev/null || die "Docker can't remove all of the copy: see the output above, then run $0 end again"
	done
	for volume in $(fact volumes); do
		# Most of them are gone with their containers.
		docker volume rm "$volume" >/dev/null 2>&1
	done
}

# known_files: the files in the copy's folder that incident.sh writes.
known_files() {
	(cd "$root/stack" && find compose.yaml prometheus alertmanager grafana -type f)
	printf '%s\n' .env message.txt
}

# remove_files: removes these files and the folders that are empty then. Last of all the state, so that a run that was
# interrupted can be repeated.
remove_files() {
	known_files | while IFS= read -r file; do
		rm -f "$folder/$file" || exit 1
	done || die "cannot remove all of $folder: see the output above"
	find "$folder" -name .DS_Store -exec rm -f {} +
	rm -rf "$state"
	find "$folder" -depth -type d -exec rmdir {} + 2>/dev/null
}

# own_files: the files in the copy's folder that the student added.
own_files() {
	[ ! -d "$folder" ] || (cd "$folder" && find . -type f ! -path './.state/*' ! -path ./.lock) | sed 's|^\./||' |
		paste -s -d ' ' -
}

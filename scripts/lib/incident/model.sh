# shellcheck shell=sh
# The model of an incident: a process that outlives incident.sh, or a container if this machine can't run the program.
# incident.sh sources this file after copy.sh.
# shellcheck disable=SC2154 # incident.sh and common.sh set these

port=$(service_field 3 exporter)
binary= # the model's program; empty if the model is a container

# find_model: sets $binary, and builds the program if it is missing or older than its source.
find_model() {
	if in_kit; then
		[ "$(uname)" != Linux ] || binary=$root/modelmock
		return
	fi
	binary=$CARGO_TARGET_DIR/release/modelmock
	[ ! -x "$binary" ] || [ -n "$(find "$root/src" "$root/Cargo.toml" -newer "$binary")" ] || return 0
	command -v cargo >/dev/null || die "cargo is missing, and it builds the model: install Rust from https://rustup.rs"
	cargo build --quiet --release --locked --manifest-path "$root/Cargo.toml" ||
		die "cargo can't build the model: see the output above"
}

# detach FILE COMMAND...: runs the command in a session of its own, and writes its process number to the file. Otherwise
# the end of this script would wake a stopped model: the system does that to a process group that loses its last parent.
# macOS lacks setsid, and has Perl.
detach() {
	pid_file=$1
	shift
	: >"$pid_file"
	# shellcheck disable=SC2016 # the inner shell expands them
	set -- sh -c 'echo $$ >"$0"; exec "$@"' "$pid_file" "$@"
	if command -v setsid >/dev/null; then
		set -- setsid "$@"
	else
		command -v perl >/dev/null || die "setsid and perl are missing, and the model needs one of them: install perl"
		set -- perl -MPOSIX=setsid -e 'setsid(); exec @ARGV or die "$!\n"' "$@"
	fi
	"$@" </dev/null >/dev/null 2>&1 &
}

# identity PID: when that process started, and its command; empty without such a process.
identity() {
	if [ -r "/proc/$1/stat" ]; then
		# The 22nd word. The 2nd is a name in parentheses, which may contain blanks.
		printf '%s %s\n' "$(sed 's/.*) //' "/proc/$1/stat" | cut -d ' ' -f 20)" "$(tr '\0' ' ' <"/proc/$1/cmdline")"
	else
		# With -ww, it cuts no command at the width of the terminal.
		ps -ww -o lstart= -o command= -p "$1"
	fi 2>/dev/null
}

model_container() {
	docker ps -q --filter "label=com.docker.compose.project=$copy_project" \
		--filter label=com.docker.compose.service=exporter 2>/dev/null
}

# is_model_process: whether the noted process still is the model that incident.sh started; sets $process. The system
# may have given its number to another process.
is_model_process() {
	process=$(fact process | grep -xE '[1-9][0-9]*') || return
	seen=$(identity "$process")
	case $seen in
	*"modelmock --listen 127.0.0.1:$port "*) [ "$seen" = "$(fact identity)" ] || [ -z "$(fact identity)" ] ;;
	*) false ;;
	esac
}

has_model() {
	is_model_process || [ -n "$(model_container)" ]
}

# start_model FLAG...: starts the model with these flags, and waits until it answers.
start_model() {
	note flags "$*"
	if [ -n "$binary" ]; then
		rm -f "$state/identity"
		detach "$state/process" "$binary" --listen "127.0.0.1:$port" --quiet "$@"
	else
		MODELMOCK_FLAGS="--quiet $*" in_copy --profile exporter up -d --pull never exporter >"$state/output" 2>&1 ||
			die "Docker can't start the model: $(tail -n 1 "$state/output")"
	fi
	wait_for 20 "the model answers" get -o /dev/null "$(readiness exporter)" 2>/dev/null ||
		die "the model doesn't answer at $(readiness exporter): run scripts/incident.sh end, then start the incident again"
	[ -z "$binary" ] || note identity "$(identity "$(fact process)")"
}

# stop_model: ends the model that incident.sh started, and no other one, and waits until it has ended.
stop_model() {
	# It may be about to write its number.
	[ ! -e "$state/process" ] || [ -s "$state/process" ] || sleep 1
	if is_model_process; then
		kill "$process" 2>/dev/null
		kill -CONT "$process" 2>/dev/null
		wait_for 5 "the model has ended" is_model_gone ||
			{ kill -KILL "$process" 2>/dev/null && wait_for 5 "the model has ended" is_model_gone; }
	fi
	rm -f "$state/process" "$state/identity"
	container=$(model_container)
	[ -z "$container" ] || docker rm -f "$container" >/dev/null
}

is_model_gone() {
	! is_model_process
}

# suspend_model: the model keeps its port and its memory, and does nothing.
suspend_model() {
	if [ -n "$binary" ]; then
		is_model_process && kill -STOP "$process"
	else
		docker pause "$(model_container)" >/dev/null
	fi
}

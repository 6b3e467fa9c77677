# Finds the container of a service. find_container in stack.sh runs this program, which reads the lines of
# load_containers and prints an ID. It prefers the container that has the service's port, wherever it is from, then one
# of the stack. From the environment: service, port, folder, the stack's, and my_stack, whose folders below count, too.

function base(path) {
	sub(/.*\//, "", path)
	return path
}

# has_name: whether the container is of this service, under any name in the Compose file.
function has_name(id,   name) {
	name = base(fact[id, "image"])
	sub(/[:@].*/, "", name)
	return fact[id, "service"] == service || base(fact[id, "path"]) == service || name == service ||
		index(name, service "-") == 1
}

# claim: 1 if a setting says that it listens at the port, -1 if it says another one, 0 without such a setting.
function claim(id,   text) {
	text = settings[id]
	if (!match(text, /(web.listen-address|GF_SERVER_HTTP_PORT|MP_UI_BIND_ADDR|-listen)[= ]+[^ ]+/))
		return 0
	text = substr(text, RSTART, RLENGTH)
	sub(/.*[^0-9]/, "", text)
	return text == port ? 1 : -1
}

function score(id,   sum, place) {
	place = fact[id, "folder"]
	is_ours = place == folder || (folder == ENVIRON["my_stack"] && index(place, folder "/") == 1)
	if (fact[id, "status"] !~ /^running/)
		return is_ours && has_name(id) ? 1 + 30 * (id in bound || claim(id) == 1) : 0
	if (fact[id, "network"] == "host")
		sum = has_name(id) ? 20 + 20 * claim(id) : claim(id) == 1 ? 30 : 0
	else if (id in published || substr(fact[id, "network"], 11, 12) in published)
		sum = has_name(id) ? 50 : id in published ? 30 : 0
	else
		sum = has_name(id) ? 10 : 0
	return sum >= 30 || (is_ours && has_name(id)) ? 10 + sum + 5 * is_ours : 0
}

BEGIN {
	FS = "\t"
	service = ENVIRON["service"]
	port = ENVIRON["port"]
	folder = ENVIRON["folder"]
}
{ fact[$1, $2] = $3 }
$2 == "name" { ids[++count] = $1 }
$2 == "arg" || $2 == "env" { settings[$1] = settings[$1] " " $3 }
$2 == "port" && base($3) == port { published[$1] = 1 }
$2 == "bind" && base($3) == port { bound[$1] = 1 }
END {
	for (n = 1; n <= count; n++) {
		points = score(ids[n])
		if (points > most) {
			most = points
			best = ids[n]
		}
	}
	print best
}

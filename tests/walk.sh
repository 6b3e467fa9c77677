# shellcheck shell=sh disable=SC2154
# A walk through the lab's browser steps, where the real web pages are, and its pictures in the README.

COMPOSE_PROJECT_NAME="modelmock-walk"
export COMPOSE_PROJECT_NAME
lab="$work/the lab"

# has_pages: whether the real programs with their web pages are here, as stand-ins have none.
has_pages() {
	for image in $(image "prom/.*") $(image "axllent/.*") $(image "grafana/.*"); do
		has_image "$image" || lacks "the image $image cannot be had here"
	done
	command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null ||
		lacks "there is no Chromium: install the package chromium"
}

walk() {
	mkdir -p "$lab/target"
	cp -R "$root/scripts" "$root/stack" "$root/tests" "$root/README.md" "$lab"
	ln -s "$root/target/release" "$lab/target/release"
	rm -f "$lab/stack/.env" "$lab/stack/".applied-*
	chmod -R a+rX "$work"
	at_the_end "GRAFANA_PASSWORD=none docker compose --env-file /dev/null -f '$lab/stack/compose.yaml' down --volumes"
	works "$lab/scripts/up.sh"
	get -L http://localhost:9090/ | grep -q '<script' || lacks "the image of Prometheus that is here has no web pages"
	works "$lab/scripts/walk.sh"
	cat "$work/said"
	works "$lab/scripts/check.sh" --own
}

# png_width FILE: its width in pixels, which stands in bytes 17 to 20.
png_width() {
	od -An -tu1 -j16 -N4 "$1" | awk '{ print (($1 * 256 + $2) * 256 + $3) * 256 + $4 }'
}

pictures_are_in_the_readme() {
	number=0
	for picture in stack/pictures/*.png; do
		number=$((number + 1))
		grep -Eq "<img src=\"$picture\" width=\"[0-9]+\" alt=\"[^\"]{40,}\">" README.md || broken "$picture is not in the README with an alt that tells what is seen"
		[ "$(png_width "$picture")" -ge 600 ] || broken "$picture is less than 600 px wide"
	done
	grep -o 'src="[^"]*"' README.md | cut -d'"' -f2 | while read -r file; do
		[ -e "$file" ] || broken "the README shows $file, which is not there"
	done || exit
	echo "measured: pictures: $number"
	[ "$number" -ge 9 ] || broken "there are less than 9 pictures"
	at_most 1258291 "$(cat stack/pictures/*.png | wc -c | tr -d ' ')" "bytes of pictures"
}

run "the README's pictures" pictures_are_in_the_readme
if (has_pages) >"$work/said" 2>&1; then
	run "the walk through the lab in a browser" walk
else
	leave_out "the walk through the lab in a browser" "$(tail -n 1 "$work/said")"
fi

#!/bin/sh
# Services of systemd, as a text file for Limpet: `units.sh FOLDER [UNIT...]`, each minute. How many have failed and which, and of
# each UNIT whether it is active and how often systemd has started it again.
set -eu
folder=${1:?usage: units.sh FOLDER [UNIT...]}
shift
temporary=$folder/.units.$$
trap 'rm -f "$temporary"' EXIT

failed=$(timeout 20 systemctl list-units --state=failed --all --plain --no-legend --full --no-pager)
{
    echo "$failed" | awk 'NF { print "failed " $1 }'
    for unit in "$@"; do
        echo "unit $unit"
        timeout 20 systemctl show --property=ActiveState,NRestarts -- "$unit"
    done
} | awk '
    function escaped(text) { gsub(/\\/, "\\\\", text); gsub(/"/, "\\\"", text); return text }
    function row(name, of, value) {
        if (!(name in rows)) order[++names] = name
        rows[name] = rows[name] name "{unit=\"" escaped(of) "\"} " value "\n"
    }
    $1 == "failed" && NF == 2 { count++; row("systemd_unit_failed", $2, 1); next }
    $1 == "unit" && NF == 2 { unit = $2; next }
    /^ActiveState=/ { row("systemd_unit_active", unit, $0 == "ActiveState=active" ? 1 : 0) }
    /^NRestarts=[0-9]+$/ { row("systemd_unit_restarts_total", unit, substr($0, 11)) }
    END {
        print "# TYPE systemd_units_failed gauge\nsystemd_units_failed " count + 0
        for (n = 1; n <= names; n++)
            printf "# TYPE %s %s\n%s", order[n], order[n] ~ /_total$/ ? "counter" : "gauge", rows[order[n]]
    }' > "$temporary"
mv "$temporary" "$folder/units.prom"

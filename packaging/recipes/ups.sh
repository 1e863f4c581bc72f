#!/bin/sh
# Batteries of Network UPS Tools, as a text file for Limpet: `ups.sh FOLDER`, each minute.
set -eu
folder=${1:?usage: ups.sh FOLDER}
temporary=$folder/.ups.$$
trap 'rm -f "$temporary"' EXIT

all=$(timeout 20 upsc -l 2> /dev/null)
for ups in $all; do
    echo "ups $ups"
    timeout 20 upsc "$ups" 2> /dev/null || true # one whose driver is not there counts as silent
done | awk '
    function row(name, value) {
        if (value !~ /^-?[0-9]+(\.[0-9]+)?$/) return
        if (!(name in rows)) order[++names] = name
        rows[name] = rows[name] name "{ups=\"" ups "\"} " value "\n"
    }
    function finish() {
        if (ups == "") return
        row("ups_answers", answers)
        answers = 0
    }
    $1 == "ups" && NF == 2 { finish(); ups = $2; next }
    { at = index($0, ": "); key = substr($0, 1, at - 1); value = substr($0, at + 2) }
    key == "battery.charge" { row("ups_battery_charge_percent", value) }
    key == "battery.runtime" { row("ups_battery_runtime_seconds", value) }
    key == "ups.load" { row("ups_load_percent", value) }
    key == "input.voltage" { row("ups_input_volts", value) }
    key == "ups.status" {
        answers = 1
        status = " " value " "
        row("ups_on_battery", index(status, " OB ") > 0)
        row("ups_low_battery", index(status, " LB ") > 0)
        row("ups_replace_battery", index(status, " RB ") > 0)
    }
    END {
        finish()
        for (n = 1; n <= names; n++) printf "# TYPE %s gauge\n%s", order[n], rows[order[n]]
    }' > "$temporary"
mv "$temporary" "$folder/ups.prom"

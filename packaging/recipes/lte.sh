#!/bin/sh
# Signal of the modems of ModemManager, as a text file for Limpet: `lte.sh FOLDER`, as root, each minute.
# Once after each boot: mmcli -m any --signal-setup=60, or there is the quality alone.
set -eu
folder=${1:?usage: lte.sh FOLDER}
temporary=$folder/.lte.$$
trap 'rm -f "$temporary"' EXIT

list=$(timeout 20 mmcli -K -L)
modems=$(echo "$list" | sed -n 's/^modem-list\.value\[[0-9]*\] *: *//p')
for modem in $modems; do
    timeout 20 mmcli -K -m "$modem"
    timeout 20 mmcli -K -m "$modem" --signal-get || true # a modem that cannot say
    echo "end : -"
done | awk '
    function number(text) { return text ~ /^-?[0-9]+(\.[0-9]+)?$/ }
    function escaped(text) { gsub(/\\/, "\\\\", text); gsub(/"/, "\\\"", text); return text }
    function row(name, more, value) {
        if (!(name in rows)) order[++names] = name
        rows[name] = rows[name] name "{modem=\"" escaped(port) "\"" more "} " value "\n"
    }
    {
        at = index($0, ":")
        key = substr($0, 1, at - 1); value = substr($0, at + 1)
        sub(/ +$/, "", key); sub(/^ +/, "", value); sub(/ +$/, "", value)
    }
    key != "end" { of[key] = value; next }
    {
        modems++
        port = of["modem.generic.primary-port"]
        registration = of["modem.3gpp.registration-state"]
        row("lte_connected", "", of["modem.generic.state"] == "connected" ? 1 : 0)
        row("lte_registered", "", registration == "home" || registration == "roaming" ? 1 : 0)
        row("lte_roaming", "", registration == "roaming" ? 1 : 0)
        if (number(of["modem.generic.signal-quality.value"]))
            row("lte_signal_quality_percent", "", of["modem.generic.signal-quality.value"])
        count = split("lte 5g", technologies, " ")
        for (t = 1; t <= count; t++) {
            start = "modem.signal." technologies[t] "."
            more = ",technology=\"" technologies[t] "\""
            if (number(of[start "rssi"])) row("lte_rssi_dbm", more, of[start "rssi"])
            if (number(of[start "rsrp"])) row("lte_rsrp_dbm", more, of[start "rsrp"])
            if (number(of[start "rsrq"])) row("lte_rsrq_db", more, of[start "rsrq"])
            if (number(of[start "snr"])) row("lte_snr_db", more, of[start "snr"])
        }
        split("", of)
    }
    END {
        print "# TYPE lte_modems gauge\nlte_modems " modems + 0
        for (n = 1; n <= names; n++) printf "# TYPE %s gauge\n%s", order[n], rows[order[n]]
    }' > "$temporary"
mv "$temporary" "$folder/lte.prom"

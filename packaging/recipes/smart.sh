#!/bin/sh
# Health and wear of disks (smartctl) and of eMMC (the kernel), as a text file for Limpet: `smart.sh FOLDER`, as root, each hour.
# A disk that sleeps is not woken. SD cards do not say how worn they are.
set -eu
folder=${1:?usage: smart.sh FOLDER}
sys=${SYS:-/sys}
temporary=$folder/.smart.$$
trap 'rm -f "$temporary"' EXIT

disks() {
    command -v smartctl > /dev/null || return 0
    timeout 60 smartctl --scan | while read -r device option type rest; do
        [ "$option" = -d ] || continue
        echo "device ${device#/dev/}"
        # The exit status is about old errors too; what counts is in the output.
        timeout 60 smartctl -n standby -H -A -d "$type" "$device" < /dev/null || true
    done
}

emmc() {
    for file in "$sys"/block/mmcblk*/device/life_time; do
        [ -r "$file" ] || continue
        device=${file%/device/life_time}
        read -r a b < "$file" || continue
        end=0x00
        [ ! -r "${file%life_time}pre_eol_info" ] || read -r end < "${file%life_time}pre_eol_info" || true
        echo "emmc ${device##*/} $((a)) $((b)) $((end))"
    done
}

{ disks; emmc; } | awk '
    function row(name, labels, value) {
        gsub(/[,%]/, "", value)
        if (value !~ /^[0-9]+$/) return
        if (!(name in rows)) order[++names] = name
        rows[name] = rows[name] name "{" labels "} " value "\n"
    }
    $1 == "device" { disk = "device=\"" $2 "\""; worn = 0; next }
    $1 == "emmc" {
        # Tenths of the life that are used, for the two kinds of cells; 11 is more than all of it, 0 is unknown.
        if ($3 > 0) row("smart_wear_percent", "device=\"" $2 "\",cells=\"a\"", $3 * 10)
        if ($4 > 0) row("smart_wear_percent", "device=\"" $2 "\",cells=\"b\"", $4 * 10)
        if ($5 > 0) row("smart_healthy", "device=\"" $2 "\"", $5 < 3 ? 1 : 0)
        next
    }
    /^SMART overall-health self-assessment test result:/ { row("smart_healthy", disk, $NF == "PASSED" ? 1 : 0) }
    /^SMART Health Status:/ { row("smart_healthy", disk, $NF == "OK" ? 1 : 0) }
    /^Percentage Used:/ { row("smart_wear_percent", disk, $NF) }
    /^Available Spare:/ { row("smart_spare_percent", disk, $NF) }
    /^Media and Data Integrity Errors:/ { row("smart_media_errors", disk, $NF) }
    /^Unsafe Shutdowns:/ { row("smart_unsafe_shutdowns", disk, $NF) }
    /^Power On Hours:/ { row("smart_power_on_hours", disk, $NF) }
    # ID# ATTRIBUTE_NAME FLAG VALUE WORST THRESH TYPE UPDATED WHEN_FAILED RAW_VALUE
    $1 ~ /^[0-9]+$/ && $3 ~ /^0x/ && NF >= 10 {
        if ($1 == 5) row("smart_reallocated_sectors", disk, $10)
        if ($1 == 9) row("smart_power_on_hours", disk, $10)
        if ($1 == 197) row("smart_pending_sectors", disk, $10)
        if ($1 == 198) row("smart_uncorrectable_sectors", disk, $10)
        if ($2 ~ /^(Wear_Leveling_Count|Media_Wearout_Indicator|SSD_Life_Left|Percent_Lifetime_Remain)$/ && !worn++)
            row("smart_wear_percent", disk, 100 - $4)
    }
    END { for (n = 1; n <= names; n++) printf "# TYPE %s gauge\n%s", order[n], rows[order[n]] }' > "$temporary"
mv "$temporary" "$folder/smart.prom"

#!/usr/bin/env bash
# run.sh BROKER INPUT OUTPUT RECORDS PARALLELISM
#
# Runs the job once on a local cluster of Flink, and prints a JSON line. What it is built of comes by Maven, and lies in
# ${WEIR_CACHE:-~/.cache/weir}/flink-kafka.
set -euo pipefail
HERE="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
OUT="${WEIR_CACHE:-$HOME/.cache/weir}/flink-kafka"

if [ ! -f "$OUT/stamp" ] || [ -n "$(find "$HERE" -type f -newer "$OUT/stamp")" ]; then
    rm -rf "$OUT"
    mkdir -p "$OUT"
    mvn --quiet --batch-mode --file "$HERE/pom.xml" -Dout="$OUT" \
        compile dependency:copy-dependencies -DoutputDirectory="$OUT/jars" -DincludeScope=runtime >&2
    touch "$OUT/stamp"
fi

folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
# What Flink's own scripts open on Java 17, as far as a local cluster needs it.
opens=()
for package in lang net io nio text time util util.concurrent util.concurrent.atomic util.concurrent.locks; do
    opens+=("--add-opens=java.base/java.$package=ALL-UNNAMED")
done
java -Xmx4g "${GC:--XX:+UseParallelGC}" "${opens[@]}" -Djava.net.preferIPv4Stack=true -Djava.io.tmpdir="$folder" \
    -Dorg.slf4j.simpleLogger.defaultLogLevel=error -cp "$OUT/classes:$OUT/jars/*" weir.Offers "$@" "$folder"

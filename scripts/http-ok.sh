#!/usr/bin/env bash
# The health check inside the images, which have no curl: exit 0 when a GET on this container is answered with 200.
#
#   http-ok PORT PATH
set -euo pipefail
exec 3<>"/dev/tcp/127.0.0.1/${1:?port}"
printf 'GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' "${2:?path}" >&3
read -r -t 4 _ status _ <&3
[[ $status == 200 ]]

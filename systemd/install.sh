#!/bin/sh
# Install below /opt/tickwright, /etc/tickwright and the unit. Run as root from the checkout. Starts nothing.
set -eu
[ "$(id -u)" = 0 ] || { echo "run as root:  sudo make install" >&2; exit 77; }
prefix=${PREFIX:-/opt/tickwright}
etc=${ETC:-/etc/tickwright}
units=${UNITS:-/etc/systemd/system}

id tickwright >/dev/null 2>&1 || useradd --system --home-dir /nonexistent --shell /usr/sbin/nologin tickwright
python3 -m venv "$prefix"
EXT_PROFILE=release "$prefix/bin/python" -m pip install -q --disable-pip-version-check '.[ed25519,tools]'
install -d -m 0755 "$prefix/share"
install -m 0644 README.md "$prefix/share/README.md"
install -d -m 0750 -g tickwright "$etc" "$etc/credentials"
[ -e "$etc/engine.toml" ] || install -m 0640 -g tickwright config/live.toml "$etc/engine.toml"
install -m 0644 systemd/tickwright.service "$units/tickwright.service"
cat <<TEXT
installed. Next:
  1. edit $etc/engine.toml and check it:  $prefix/bin/tickwright check --config $etc/engine.toml
  2. keys, mode 0600, encrypted for this host:
       systemd-creds encrypt --name=venues.toml venues.toml $etc/credentials/venues.cred && shred -u venues.toml
  3. systemctl daemon-reload && systemctl enable --now tickwright
TEXT

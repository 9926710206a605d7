#!/bin/sh
# Sets up edge-vit on a board that runs Jetson Linux: `sudo sh THIS_FILE` on the board, or `ssh BOARD sudo sh <THIS_FILE`.
set -eu

board=@board@
l4t=@l4t@
hostname=@hostname@
user=@user@
ssh_key=@ssh_key@
ssid=@ssid@
psk=@psk@

die() { echo "edge-vit: $*" >&2; exit 1; }

# Before anything is changed.
release=$(sed -n 's/^# R\([0-9]*\).*/\1/p' /etc/nv_tegra_release 2>/dev/null || true)
[ -n "$release" ] || die "this is no Jetson: there is no /etc/nv_tegra_release; run this on the $board"
[ "$release" = "${l4t%%.*}" ] || die "this is Jetson Linux $release, made for the $board is ${l4t%%.*}: flash that, or make the set-up for another board"
[ "$(id -u)" -eq 0 ] || die "root is needed: run it with sudo"
[ -z "$ssid" ] || command -v nmcli >/dev/null || die "the network $ssid needs NetworkManager, and there is no nmcli: apt-get install network-manager"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

echo "$hostname" >/etc/hostname
hostname "$hostname" 2>/dev/null || true
touch /etc/hosts
sed -i '/^127\.0\.1\.1[[:space:]]/d' /etc/hosts
echo "127.0.1.1 $hostname" >>/etc/hosts

if [ -n "$ssh_key" ]; then
    if ! getent passwd "$user" >/dev/null; then
        useradd --create-home --shell /bin/bash --groups sudo,video "$user"
        install -d -m 750 /etc/sudoers.d
        echo "$user ALL=(ALL) NOPASSWD:ALL" >"/etc/sudoers.d/$user"
        chmod 440 "/etc/sudoers.d/$user"
    fi
    home=$(getent passwd "$user" | cut -d: -f6)
    group=$(id -g "$user")
    install -d -m 700 -o "$user" -g "$group" "$home/.ssh"
    keys=$home/.ssh/authorized_keys
    grep -qxF "$ssh_key" "$keys" 2>/dev/null || printf "%s\n" "$ssh_key" >>"$keys"
    chown "$user:$group" "$keys"
    chmod 600 "$keys"
fi

if [ -n "$ssid" ]; then
    nmcli connection delete edge-vit >/dev/null 2>&1 || true
    nmcli connection add type wifi con-name edge-vit ifname '*' ssid "$ssid" \
        wifi-sec.key-mgmt wpa-psk wifi-sec.psk "$psk" connection.autoconnect yes >/dev/null
    nmcli connection up edge-vit >/dev/null 2>&1 || echo "edge-vit: $ssid is not in reach now; it is tried again at every boot" >&2
fi

# What stands there was written on the board, and stays.
if [ ! -e /etc/edge-vit/edge-vit.toml ]; then
    mkdir -p /etc/edge-vit
    cat >/etc/edge-vit/edge-vit.toml <<'END_OF_CONFIGURATION'
@configuration@
END_OF_CONFIGURATION
fi
if [ ! -e /etc/default/edge-vit ]; then
    (umask 077 && cat >/etc/default/edge-vit) <<'END_OF_SECRETS'
@secrets@
END_OF_SECRETS
fi

base64 -d >"$work/edge-vit.deb" <<'END_OF_PACKAGE'
@package@
END_OF_PACKAGE
dpkg --force-confold --install "$work/edge-vit.deb" </dev/null
edge-vit --model /var/lib/edge-vit/models --self-test </dev/null
if [ -d /run/systemd/system ]; then
    systemctl is-active --quiet edge-vit || echo "edge-vit: it does not run yet; journalctl -u edge-vit says why" >&2
fi

# Shared by deploy/up and deploy/down. Sourced, not run.
# shellcheck shell=bash disable=SC2034

set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
# Commands go to the real standard output even inside $(...).
exec 3>&1

dry_run=false
assume_yes=false

say() { printf '%s\n' "$*" >&2; }
die() {
  say "${0##*/}: $1"
  exit "${2:-1}"
}

show() {
  printf '%q ' "$@" >&3
  printf '\n' >&3
}

# Runs a command that changes something; a dry run only prints it.
change() {
  show "$@"
  $dry_run || "$@" >&2
}

# Runs a command that only reads and prints its answer; a dry run prints the stand-in.
ask() {
  local stand_in=$1
  shift
  if $dry_run; then
    show "$@"
    printf '%s\n' "$stand_in"
  else
    "$@"
  fi
}

# Like `ask`, for things that need not exist.
ask_if_there() {
  ask "$@" 2>/dev/null || true
}

confirm() {
  local question=$1 expected=$2 answer
  if $dry_run || $assume_yes; then return; fi
  [[ -t 0 ]] || die "there is nobody to answer \"$question\"; say --yes"
  read -r -p "$question " answer
  [[ $answer == "$expected" ]] || die "stopped; nothing was changed since the last command above" 3
}

# The value of a parameter with a plain value, from the file of the environment. Empty when it is not there.
parameter() {
  sed -n "s/^ *\"$1\": { \"value\": \"\{0,1\}\([^\"{}]*[^\"{} ]\)\"\{0,1\} },\{0,1\}\$/\1/p" "$parameters"
}

# A JSON array of strings.
json_array() {
  local item result=''
  for item in "$@"; do
    [[ $item =~ ^[A-Za-z0-9@._+:/-]+$ ]] || die "'$item' has a character that does not belong there" 2
    result+="${result:+,}\"$item\""
  done
  printf '[%s]' "$result"
}

# Sets the names that both scripts derive from the environment.
use_environment() {
  environment=$1
  case $environment in
    dev | staging | prod) ;;
    '') die "name the environment: dev, staging or prod; see --help" 2 ;;
    *) die "there is no environment '$environment'; they are dev, staging and prod" 2 ;;
  esac
  parameters=infra/main.parameters.$environment.json
  local prefix
  prefix=$(parameter prefix)
  base=${prefix:-ebb}-$environment
  platform_group=rg-$base
  data_group=rg-$base-data
  gateway_group=rg-$base-gateways
  $dry_run || command -v az >/dev/null || die "the Azure CLI (az) is not installed; see learn.microsoft.com/cli/azure"
  subscription=$(ask 00000000-0000-0000-0000-000000000000 az account show --query id --output tsv) ||
    die "not signed in; run: az login"
}

# Groups of these names that somebody else made are left alone.
check_ownership() {
  local group=$1 found
  found=$(ask_if_there "$environment" az group show --name "$group" --query "tags.Environment || 'none'" --output tsv)
  [[ -z $found || $found == "$environment" ]] ||
    die "resource group $group exists with the tag Environment=$found, so it is not the one of '$environment'; choose another prefix"
  [[ -n $found ]]
}

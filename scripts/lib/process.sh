# shellcheck shell=bash
# Long-running processes: started detached, known by pid and start time, stopped only when they are still the ones that
# were started. Needs common.sh. State: $state/pids/NAME.pid (the pid alone) and NAME.started (what tells two processes
# with the same pid apart).

pid_file() { echo "$state/pids/$1.pid"; }
log_file() { echo "$state/logs/$1.log"; }

# When a process started: a pid may be given to another process, a pid with its start time may not.
start_time() {
  if [[ -r /proc/$1/stat ]]; then
    local stat
    stat=$(<"/proc/$1/stat") || return 1
    # The command name, in brackets, may hold anything; the start time is the 20th field after it.
    read -r -a fields <<<"${stat##*) }"
    # A zombie has ended, whatever its parent knows; unless only its first thread has, and others still hold the ports.
    if [[ ${fields[0]} == Z ]]; then
      local threads=("/proc/$1/task/"*)
      ((${#threads[@]} > 1)) || return 1
    fi
    echo "${fields[19]}"
  elif [[ ! -d /proc/self ]]; then
    ps -o lstart= -p "$1"
  else
    return 1
  fi 2>/dev/null
}

# running_pid NAME: prints the pid when the service runs; fails when it does not.
running_pid() {
  local pid started
  pid=$(cat "$(pid_file "$1")" 2>/dev/null) || return 1
  started=$(cat "$state/pids/$1.started" 2>/dev/null) || return 1
  # An empty start time is that of a launch that had ended before it was looked at, and no process has it.
  [[ -n $pid && -n $started && $(start_time "$pid") == "$started" ]] || return 1
  echo "$pid"
}

is_running() { running_pid "$1" >/dev/null; }
is_stopped() { ! is_running "$1"; }

# launch NAME COMMAND...: in a session of its own, with no terminal, so that it outlives this shell.
launch() {
  local name=$1 pid
  shift
  mkdir -p "$state/pids" "$state/logs"
  # 9 is the lock of start-system.sh: a service that kept it open would hold the lock for ever.
  (
    cd / || exit 1
    exec setsid "$@"
  ) </dev/null >>"$(log_file "$name")" 2>&1 9>&- &
  pid=$!
  start_time "$pid" >"$state/pids/$name.started" || true
  echo "$pid" >"$(pid_file "$name")"
  if [[ -n ${started_list:-} ]]; then echo "$name" >>"$started_list"; fi
}

# Children of a process and theirs: PostgreSQL's server processes.
descendants() {
  local child children
  read -r -d '' -a children < <(cat "/proc/$1"/task/*/children 2>/dev/null) || true
  for child in "${children[@]}"; do
    echo "$child"
    descendants "$child"
  done
}

# signal_tree SIGNAL PID: the process first, so that it starts no new child meanwhile.
signal_tree() {
  local children
  kill "-$1" "$2" 2>/dev/null || true
  children=$(descendants "$2")
  # shellcheck disable=SC2086 # a list of pids
  if [[ -n $children ]]; then kill "-$1" $children 2>/dev/null || true; fi
}

# all_ended PID:START...: none of these processes exists any more.
all_ended() {
  local entry
  for entry in "$@"; do
    [[ $(start_time "${entry%%:*}") != "${entry#*:}" ]] || return 1
  done
}

# with_start_times PID...: PID:START of each, to recognise them later.
with_start_times() {
  local pid started
  for pid in "$@"; do
    if started=$(start_time "$pid"); then echo "$pid:$started"; fi
  done
}

forget() { rm -f "$(pid_file "$1")" "$state/pids/$1.started"; }

# stop_process NAME SIGNAL SECONDS: asks, waits, and only then forces.
stop_process() {
  local name=$1 signal=$2 seconds=$3 pid
  if ! pid=$(running_pid "$name"); then
    forget "$name"
    return 0
  fi
  kill "-$signal" "$pid" 2>/dev/null || true
  # A paused process handles nothing until it is resumed.
  signal_tree CONT "$pid"
  if ! wait_until "$seconds" is_stopped "$name"; then
    warn "$name did not end within $seconds s after SIG$signal: killing it"
    kill_process "$name"
  fi
  forget "$name"
}

# kill_process NAME: SIGKILL. Returns when the process and all its children are gone.
kill_process() {
  local name=$1 pid family
  if ! pid=$(running_pid "$name"); then
    forget "$name"
    return 0
  fi
  # shellcheck disable=SC2046 # a list of pids
  mapfile -t family < <(with_start_times "$pid" $(descendants "$pid"))
  kill -KILL "$pid" 2>/dev/null || true
  # PostgreSQL's children end by themselves once their parent is gone, unless they are paused.
  local entry
  for entry in "${family[@]}"; do kill -CONT "${entry%%:*}" 2>/dev/null || true; done
  wait_until 30 all_ended "${family[@]}" || warn "$name: children of pid $pid are still there after 30 s"
  forget "$name"
}

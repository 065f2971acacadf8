# Runs one server for a test process and ends it with that process.
#
# usage: sh supervisor.sh SCRATCH STOP_SIGNAL COMMAND...
# Words on stdin: start, kill9, stop. The end of stdin, which comes also when the test process is killed, stops the
# server and removes SCRATCH. setsid gives the server a process group of its own, so that only its own pids are
# signalled; --pdeathsig covers the death of this shell itself.
scratch=$1
stop=$2
shift 2
child=

gone() {
    [ ! -e "/proc/$1" ] || grep -q ') Z ' "/proc/$1/stat" 2>/dev/null
}

halt() {
    [ -n "$child" ] || return 0
    # Who stands still has no more children.
    [ "$1" != KILL ] || kill -STOP "$child" 2>/dev/null
    family=$(cat "/proc/$child/task/$child/children" 2>/dev/null)
    kill "-$1" "$child" 2>/dev/null
    tries=0
    until gone "$child" || [ "$1" = KILL ] || [ "$tries" -ge 100 ]; do
        sleep 0.1
        tries=$((tries + 1))
    done
    # What is left of the server and its children dies as it would with the machine.
    # shellcheck disable=SC2086
    kill -KILL -- "-$child" "$child" $family 2>/dev/null
    wait "$child" 2>/dev/null
    # One that writes to the disk dies late, and holds what the next server needs.
    for each in $family; do
        tries=0
        until gone "$each" || [ "$tries" -ge 100 ]; do
            sleep 0.1
            tries=$((tries + 1))
        done
    done
    child=
}

trap '' INT TERM HUP
while read -r word; do
    case $word in
    start)
        halt "$stop"
        (
            trap - INT TERM HUP
            exec setsid setpriv --pdeathsig KILL -- "$@" </dev/null >>"$scratch/console.log" 2>&1
        ) &
        child=$!
        echo "$child"
        ;;
    kill9)
        halt KILL
        echo killed
        ;;
    stop)
        halt "$stop"
        echo stopped
        ;;
    esac
done
halt "$stop"
rm -rf -- "$scratch"

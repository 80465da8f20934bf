# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_lvsd_global_optspecs
    string join \n h/help V/version
end

function __fish_lvsd_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_lvsd_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_lvsd_using_subcommand
    set -l cmd (__fish_lvsd_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c lvsd -n "__fish_lvsd_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c lvsd -n "__fish_lvsd_needs_command" -s V -l version -d 'Print version'
complete -c lvsd -n "__fish_lvsd_needs_command" -f -a "run" -d 'Direct traffic in this network namespace until SIGTERM or SIGINT'
complete -c lvsd -n "__fish_lvsd_needs_command" -f -a "check" -d 'Say everything that is wrong in a configuration file; change nothing'
complete -c lvsd -n "__fish_lvsd_needs_command" -f -a "demo" -d 'Show it at work: a small site in network namespaces, real HTTP through it'
complete -c lvsd -n "__fish_lvsd_needs_command" -f -a "replay" -d 'Send captured packets through a director in memory, and capture what it sends'
complete -c lvsd -n "__fish_lvsd_needs_command" -f -a "replay-trace" -d 'Do again what a kernel\'s IPVS was recorded to do, and say where it comes out differently'
complete -c lvsd -n "__fish_lvsd_needs_command" -f -a "replay-scenes" -d 'Do again what a kernel\'s IPVS was captured doing on both of its sides, byte for byte'
complete -c lvsd -n "__fish_lvsd_needs_command" -f -a "replay-states" -d 'Do again what a kernel\'s connections were recorded to do, packet by packet'
complete -c lvsd -n "__fish_lvsd_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c lvsd -n "__fish_lvsd_using_subcommand run" -s c -l config -d 'The same as FILE' -r -F
complete -c lvsd -n "__fish_lvsd_using_subcommand run" -s s -l socket -d 'The control socket, instead of the configuration\'s' -r -F
complete -c lvsd -n "__fish_lvsd_using_subcommand run" -l io -d 'How packets come and go' -r -f -a "afpacket\t'Through AF_PACKET rings on the interfaces of the configuration'
none\t'Not at all: rules can be tried and listed, and nothing of the host is touched'"
complete -c lvsd -n "__fish_lvsd_using_subcommand run" -l die-with-parent -d 'End when the parent process ends, however it ends'
complete -c lvsd -n "__fish_lvsd_using_subcommand run" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c lvsd -n "__fish_lvsd_using_subcommand check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c lvsd -n "__fish_lvsd_using_subcommand demo" -l seconds -d 'Seconds of traffic for each forwarding method' -r
complete -c lvsd -n "__fish_lvsd_using_subcommand demo" -l methods -d 'The forwarding methods to show: nat, dr, tun' -r
complete -c lvsd -n "__fish_lvsd_using_subcommand demo" -l keep -d 'Leave the site up until Ctrl-C, and say what to type next'
complete -c lvsd -n "__fish_lvsd_using_subcommand demo" -s 6 -l ipv6 -d 'IPv6 instead of IPv4'
complete -c lvsd -n "__fish_lvsd_using_subcommand demo" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c lvsd -n "__fish_lvsd_using_subcommand replay" -l rules -d 'The rules, as `ipvsadm -S -n` writes them' -r -F
complete -c lvsd -n "__fish_lvsd_using_subcommand replay" -l in -d 'A side of the director, and what was captured there (pcap or pcapng, Ethernet)' -r
complete -c lvsd -n "__fish_lvsd_using_subcommand replay" -l out -d 'The folder for what the director sends: SIDE.pcap for each side' -r -F
complete -c lvsd -n "__fish_lvsd_using_subcommand replay" -l sysctl -d 'A setting under net.ipv4.vs, such as nat_icmp_send=1' -r
complete -c lvsd -n "__fish_lvsd_using_subcommand replay" -l mark -d 'Packets with a firewall mark, in nft\'s words: \'ip daddr 10.5.0.0/16 tcp dport 80=7\'' -r
complete -c lvsd -n "__fish_lvsd_using_subcommand replay" -l mac -d 'The director\'s Ethernet address on a side [default: whom clients, servers and VIPs show]' -r
complete -c lvsd -n "__fish_lvsd_using_subcommand replay" -l address -d 'The director\'s own address on a side, the source of tunnels and of errors to servers; once for each family [default: what it sent from, else 198.18.N.1 and 2001:2:0:N::1]' -r
complete -c lvsd -n "__fish_lvsd_using_subcommand replay" -l mtu -d 'The MTU of a side [default: what the director told others, else 1500]' -r
complete -c lvsd -n "__fish_lvsd_using_subcommand replay" -l route -d 'Where addresses are: 10.2.0.0/16=server, or behind a router: 10.2.0.0/16=server,10.9.0.2 [default: where they were seen, servers on the last side, all others on the first]' -r
complete -c lvsd -n "__fish_lvsd_using_subcommand replay" -l neighbour -d 'The Ethernet address of a neighbour [default: as seen, else made of its address]' -r
complete -c lvsd -n "__fish_lvsd_using_subcommand replay" -l explain -d 'Say what became of each packet, a line each: seconds, side, number in the capture, packet, verdict, and what left by which side'
complete -c lvsd -n "__fish_lvsd_using_subcommand replay" -l no-host -d 'Without the host around: the VIPs are not its addresses, so that the director answers for them, and what the director leaves alone ends there'
complete -c lvsd -n "__fish_lvsd_using_subcommand replay" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c lvsd -n "__fish_lvsd_using_subcommand replay-trace" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c lvsd -n "__fish_lvsd_using_subcommand replay-scenes" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c lvsd -n "__fish_lvsd_using_subcommand replay-states" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c lvsd -n "__fish_lvsd_using_subcommand help; and not __fish_seen_subcommand_from run check demo replay replay-trace replay-scenes replay-states help" -f -a "run" -d 'Direct traffic in this network namespace until SIGTERM or SIGINT'
complete -c lvsd -n "__fish_lvsd_using_subcommand help; and not __fish_seen_subcommand_from run check demo replay replay-trace replay-scenes replay-states help" -f -a "check" -d 'Say everything that is wrong in a configuration file; change nothing'
complete -c lvsd -n "__fish_lvsd_using_subcommand help; and not __fish_seen_subcommand_from run check demo replay replay-trace replay-scenes replay-states help" -f -a "demo" -d 'Show it at work: a small site in network namespaces, real HTTP through it'
complete -c lvsd -n "__fish_lvsd_using_subcommand help; and not __fish_seen_subcommand_from run check demo replay replay-trace replay-scenes replay-states help" -f -a "replay" -d 'Send captured packets through a director in memory, and capture what it sends'
complete -c lvsd -n "__fish_lvsd_using_subcommand help; and not __fish_seen_subcommand_from run check demo replay replay-trace replay-scenes replay-states help" -f -a "replay-trace" -d 'Do again what a kernel\'s IPVS was recorded to do, and say where it comes out differently'
complete -c lvsd -n "__fish_lvsd_using_subcommand help; and not __fish_seen_subcommand_from run check demo replay replay-trace replay-scenes replay-states help" -f -a "replay-scenes" -d 'Do again what a kernel\'s IPVS was captured doing on both of its sides, byte for byte'
complete -c lvsd -n "__fish_lvsd_using_subcommand help; and not __fish_seen_subcommand_from run check demo replay replay-trace replay-scenes replay-states help" -f -a "replay-states" -d 'Do again what a kernel\'s connections were recorded to do, packet by packet'
complete -c lvsd -n "__fish_lvsd_using_subcommand help; and not __fish_seen_subcommand_from run check demo replay replay-trace replay-scenes replay-states help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'

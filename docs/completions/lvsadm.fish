complete -c lvsadm -l start-daemon -d 'Start the synchronisation of connections, as master or backup' -r -f -a "master\t''
backup\t''"
complete -c lvsadm -l stop-daemon -d 'Stop it' -r -f -a "master\t''
backup\t''"
complete -c lvsadm -s t -l tcp-service -d 'A service of TCP' -r -f
complete -c lvsadm -s u -l udp-service -d 'A service of UDP' -r -f
complete -c lvsadm -l sctp-service -d 'A service of SCTP' -r -f
complete -c lvsadm -s f -l fwmark-service -d 'Packets with this firewall mark, 1 to 4294967295' -r -f
complete -c lvsadm -s s -l scheduler -d 'Who gets the next connection' -r -f -a "rr\t''
wrr\t''
lc\t''
wlc\t''
lblc\t''
lblcr\t''
dh\t''
sh\t''
mh\t''
sed\t''
nq\t''
fo\t''
ovf\t''
twos\t''
none\t''
mhbl\t''
p2c\t''"
complete -c lvsadm -s p -l persistent -d 'A client stays with its server until so long after its last connection' -r -f
complete -c lvsadm -s M -l netmask -d 'Clients of one network stay together' -r -f
complete -c lvsadm -s b -l sched-flags -d 'sh-fallback, sh-port, mh-fallback, mh-port, or flag-1 to flag-3' -r -f -a "sh-fallback\t''
sh-port\t''
mh-fallback\t''
mh-port\t''"
complete -c lvsadm -l pe -d 'With -p, tell clients apart by content' -r -f -a "sip\t''"
complete -c lvsadm -s r -l real-server -d 'The server' -r -f
complete -c lvsadm -s w -l weight -d 'Its share of new connections, 0 to 2147483647' -r -f
complete -c lvsadm -s x -l u-threshold -d 'No new connections from so many on' -r -f
complete -c lvsadm -s y -l l-threshold -d 'New ones again below so many' -r -f
complete -c lvsadm -l tun-type -d 'With -i, what is between the headers' -r -f -a "ipip\t''
gue\t''
gre\t''"
complete -c lvsadm -l tun-port -d 'The UDP port of gue' -r -f
complete -c lvsadm -l syncid -d 'The group of directors, 0 to 255' -r -f
complete -c lvsadm -l sync-maxlen -d 'The longest message' -r -f
complete -c lvsadm -l mcast-interface -d 'Where to speak or listen' -r -f
complete -c lvsadm -l mcast-group -d 'The multicast group' -r -f
complete -c lvsadm -l mcast-port -d 'The UDP port' -r -f
complete -c lvsadm -l mcast-ttl -d 'How far messages go' -r -f
complete -c lvsadm -l socket -d 'The control socket of lvsd' -r -F
complete -c lvsadm -l sysctl -d 'A command' -r -f
complete -c lvsadm -l local -d 'The local addresses, for a service or, with --fullnat, for one server of it, which otherwise has the service\'s' -r -f
complete -c lvsadm -l on-removal -d 'What becomes of the connections of servers that are removed or get weight 0' -r -f -a "drain\t''
reset\t''
reschedule\t''"
complete -c lvsadm -s A -l add-service -d 'Define a service'
complete -c lvsadm -s E -l edit-service -d 'Change a service'
complete -c lvsadm -s D -l delete-service -d 'Remove a service with its servers'
complete -c lvsadm -s C -l clear -d 'Remove all services'
complete -c lvsadm -s a -l add-server -d 'Define a real server of a service'
complete -c lvsadm -s e -l edit-server -d 'Change a real server'
complete -c lvsadm -s d -l delete-server -d 'Remove a real server'
complete -c lvsadm -s L -s l -l list -d 'List rules, connections or settings'
complete -c lvsadm -s Z -l zero -d 'Count from zero again'
complete -c lvsadm -s S -l save -d 'Print the rules as command lines that -R reads'
complete -c lvsadm -s R -l restore -d 'Read such lines from standard input'
complete -c lvsadm -l set -d 'Set timeouts in seconds, by three numbers'
complete -c lvsadm -s h -l help -d '-h prints ipvsadm\'s help, --help this manual'
complete -c lvsadm -s v -l version -d 'Print the version of ipvsadm whose command lines these are'
complete -c lvsadm -s 6 -l ipv6 -d 'After -f'
complete -c lvsadm -s o -l ops -d 'Schedule each UDP packet by itself'
complete -c lvsadm -s g -l gatewaying -d 'Direct routing, the default'
complete -c lvsadm -s i -l ipip -d 'A tunnel to the server'
complete -c lvsadm -s m -l masquerading -d 'Address translation (NAT)'
complete -c lvsadm -l tun-nocsum -d 'No checksum of the tunnel\'s own, the default'
complete -c lvsadm -l tun-csum -d 'A checksum, with gue and gre'
complete -c lvsadm -l tun-remcsum -d 'Remote checksum offload, with gue'
complete -c lvsadm -s n -l numeric -d 'Addresses and ports as numbers'
complete -c lvsadm -s c -l connection -d 'The connection table'
complete -c lvsadm -l stats -d 'Counters of connections, packets and bytes'
complete -c lvsadm -l rate -d 'The same per second'
complete -c lvsadm -l thresholds -d 'The thresholds of each server'
complete -c lvsadm -l persistent-conn -d 'The persistent clients of each server'
complete -c lvsadm -l tun-info -d 'The tunnel to each server'
complete -c lvsadm -l timeout -d 'The timeouts that --set sets'
complete -c lvsadm -l daemon -d 'The synchronisation daemons'
complete -c lvsadm -s X -l exact -d 'Large numbers in full, not as 123K'
complete -c lvsadm -l nosort -d 'Services in the director\'s own order'
complete -c lvsadm -l sort -d 'Of no effect'
complete -c lvsadm -l json -d 'With -L or --sysctl'
complete -c lvsadm -l drops -d 'With -L'
complete -c lvsadm -l atomic -d 'With -R'
complete -c lvsadm -l fullnat -d 'A forwarding method like -m that translates the client\'s address too, to one of the local addresses'
complete -c lvsadm -l toa -d 'For a service'
complete -c lvsadm -l no-toa -d 'Do not, the default'

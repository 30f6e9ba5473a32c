// Listening sockets of protocols that Node has none of (SCTP), held by a small perl: perl-base is on every Debian. It ends with this
// process. Who connects to one is turned away at once.

import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { CodedError } from '../lib/errors.ts'
import type { Log } from '../lib/log.ts'

/** As /etc/protocols numbers it. */
export const SCTP = 132

/**
 * Not blocking: SCTP takes a connection that its client aborts out of the queue, and `accept` would wait for the next one.
 *
 * Lines in: `ID ADDRESS PORT` to open one, `ID` to close it. Lines out: `ID`, or `ID ECODE` where it can't be had.
 */
const PROGRAM = `
use strict; use Socket qw(:all); use IO::Select; use Errno;
$| = 1;
my (%held, $input);
my $select = IO::Select->new(\\*STDIN);
sub opened {
  my ($address, $port) = @_;
  my $six = $address =~ /:/;
  my $place = $six ? pack_sockaddr_in6($port, inet_pton(AF_INET6, $address)) : pack_sockaddr_in($port, inet_aton($address));
  socket(my $socket, $six ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_NONBLOCK, $ARGV[0]) or return;
  setsockopt($socket, SOL_SOCKET, SO_REUSEADDR, 1);
  setsockopt($socket, IPPROTO_IPV6, IPV6_V6ONLY, 0) if $six;
  return bind($socket, $place) && listen($socket, 16) && $socket;
}
while (my @ready = $select->can_read) {
  for my $one (@ready) {
    if ($one != \\*STDIN) {
      if (accept(my $client, $one)) { setsockopt($client, SOL_SOCKET, SO_LINGER, pack('ii', 1, 0)) }
      next;
    }
    sysread(STDIN, $input, 4096, length($input // '')) or exit;
    while ($input =~ s/^(.*)\\n//) {
      my ($id, @place) = split ' ', $1;
      if (!@place) {
        $select->remove($held{$id});
        close(delete $held{$id});
      } elsif ($held{$id} = opened(@place)) {
        $select->add($held{$id});
        print "$id\\n";
      } else {
        my ($code) = grep { $!{$_} } keys %!;
        print "$id ", $code // 'EIO', "\\n";
      }
    }
  }
}
`

export class PerlSockets {
  readonly #protocol: number
  readonly #log: Log
  readonly #held = new Map<number, string>()
  readonly #answers = new Map<number, (code: string) => void>()
  #nextId = 1
  #perl: ChildProcessWithoutNullStreams | undefined
  /** This perl has answered: one that ends before it has is not worth another try. */
  #works = false

  constructor(protocol: number, log: Log) {
    this.#protocol = protocol
    this.#log = log
  }

  /** @throws {CodedError} EADDRINUSE, EPROTONOSUPPORT … as the kernel says, NO_PERL */
  async open(address: string, port: number): Promise<{ close(): void }> {
    const id = this.#nextId++
    const place = `${address} ${port}`
    const perl = this.#running()
    const code = await new Promise<string>((resolve) => {
      this.#answers.set(id, resolve)
      perl.stdin.write(`${id} ${place}\n`)
    })
    if (code === '') this.#held.set(id, place)
    const close = (): void => {
      if (this.#held.delete(id)) this.#perl?.stdin.write(`${id}\n`)
      if (this.#held.size + this.#answers.size === 0) this.close()
    }
    if (code === '') return { close }
    close()
    throw new CodedError(code, code === 'NO_PERL' ? 'perl cannot be started' : code)
  }

  close(): void {
    this.#held.clear()
    this.#perl?.stdin.end()
    this.#perl = undefined
  }

  #running(): ChildProcessWithoutNullStreams {
    if (this.#perl) return this.#perl
    const perl = spawn('perl', ['-e', PROGRAM, String(this.#protocol)])
    this.#perl = perl
    this.#works = false
    perl.stderr.resume()
    perl.stdin.on('error', () => {}) // its end says more
    perl.on('error', () => this.#ended(perl))
    perl.on('exit', () => this.#ended(perl))
    createInterface({ input: perl.stdout }).on('line', (line) => {
      const [id = '', code = ''] = line.split(' ')
      this.#works = true
      this.#answers.get(Number(id))?.(code)
      this.#answers.delete(Number(id))
    })
    return perl
  }

  #ended(perl: ChildProcessWithoutNullStreams): void {
    if (this.#perl !== perl) return
    this.#perl = undefined
    for (const answer of this.#answers.values()) answer('NO_PERL')
    this.#answers.clear()
    if (this.#held.size === 0) return
    this.#log.warn({ ports: this.#held.size, replaced: this.#works }, 'the perl that holds ports has died')
    if (!this.#works) return
    for (const [id, place] of this.#held) this.#running().stdin.write(`${id} ${place}\n`)
  }
}

// Durations, sizes, numbers, references, names: what Docker's notations mean, and what is refused, in Docker's words.

import fc from 'fast-check'
import t from 'tap'
import { normalizeHost } from '../../src/cli/address.ts'
import { cidrContains } from '../../src/cli/cidr.ts'
import { compareVersions } from '../../src/cli/client.ts'
import { parseCsvRecord } from '../../src/cli/csv.ts'
import { compareNatural } from '../../src/cli/natural-order.ts'
import { displayImage, withDefaultTag, withDigest } from '../../src/cli/reference.ts'
import { ingressPorts } from '../../src/cli/service/listing.ts'
import { sinceSeconds } from '../../src/cli/service/logs.ts'
import { prettyService } from '../../src/cli/service/pretty.ts'
import { parseUint, quote } from '../../src/cli/strconv.ts'
import { closest } from '../../src/cli/suggest.ts'
import { parseListenAddress } from '../../src/cli/swarm/flags.ts'
import { bytesSize, formatDuration, humanDuration, parseBytes, parseCpus, parseDuration } from '../../src/cli/units.ts'

const DIGEST = `sha256:${'a'.repeat(64)}`

t.test('Go durations are read in nanoseconds', async (t) => {
  const table: readonly [string, number][] = [
    ['0', 0],
    ['5s', 5e9],
    ['1m30s', 90e9],
    ['1.5h', 5400e9],
    ['-2ms', -2e6],
    ['+1us', 1e3],
    ['1µs', 1e3],
    ['.5s', 5e8],
    ['1h2m3.004s', 3723004000000],
    ['2160h', 7776000e9],
  ]
  for (const [text, nanoseconds] of table) t.equal(parseDuration(text), nanoseconds, text)
  for (const text of ['', '5', 's', '1x', '1.s.', '--1s', '1s2'])
    t.throws(() => parseDuration(text), { message: /^time: / }, text)
})

t.test('a duration is printed so that it reads back as itself', async () => {
  fc.assert(
    fc.property(fc.integer({ min: -(2 ** 50), max: 2 ** 50 }), (ns) => parseDuration(formatDuration(ns)) === ns),
    { seed: 1 },
  )
})

t.test('durations print as Go prints them', async (t) => {
  const table: readonly [number, string][] = [
    [0, '0s'],
    [1, '1ns'],
    [1500, '1.5µs'],
    [2e6, '2ms'],
    [1.5e9, '1.5s'],
    [60e9, '1m0s'],
    [7776000e9, '2160h0m0s'],
  ]
  for (const [ns, text] of table) t.equal(formatDuration(ns), text)
})

t.test('ages are rounded as in docker ps', async (t) => {
  const table: readonly [number, string][] = [
    [999, 'Less than a second'],
    [1999, '1 second'],
    [59_999, '59 seconds'],
    [60_000, 'About a minute'],
    [119_999, 'About a minute'],
    [120_000, '2 minutes'],
    [3_599_999, '59 minutes'],
    [3_600_000, 'About an hour'],
    [5_400_000, '2 hours'],
    [47 * 3_600_000, '47 hours'],
    [48 * 3_600_000, '2 days'],
    [14 * 86_400_000, '2 weeks'],
    [60 * 86_400_000, '2 months'],
    [730 * 86_400_000, '2 years'],
  ]
  for (const [ms, text] of table) t.equal(humanDuration(ms), text, text)
})

t.test('sizes are binary, whatever their suffix', async (t) => {
  const table: readonly [string, number][] = [
    ['64m', 64 * 2 ** 20],
    ['1.5GiB', 1.5 * 2 ** 30],
    ['1kb', 1024],
    ['100', 100],
    ['10 MB', 10 * 2 ** 20],
    ['0b', 0],
  ]
  for (const [text, bytes] of table) t.equal(parseBytes(text), bytes, text)
  t.throws(() => parseBytes('x'), { message: "invalid size: 'x'" })
  t.throws(() => parseBytes('1x'), { message: "invalid suffix: 'x'" })
  t.throws(() => parseBytes('-1m'), { message: "invalid size: '-1m'" })
  t.equal(bytesSize(67108864), '64MiB')
  t.equal(bytesSize(1610612736), '1.5GiB')
  t.equal(bytesSize(1000), '1000B')
  t.equal(bytesSize(25288216576), '23.55GiB')
})

t.test('CPUs are exact to a nanosecond of a second', async (t) => {
  t.equal(parseCpus('0.5'), 5e8)
  t.equal(parseCpus('1/4'), 25e7)
  t.equal(parseCpus('2'), 2e9)
  t.throws(() => parseCpus('1/3'), { message: 'value is too precise' })
  t.throws(() => parseCpus('half'), { message: 'failed to parse half as a rational number' })
})

t.test('unsigned numbers take bases where Docker does', async (t) => {
  t.equal(parseUint('0x10', 0), 16)
  t.equal(parseUint('0444', 0), 0o444)
  t.equal(parseUint('1_000', 0), 1000)
  t.throws(() => parseUint('0x10'), { message: 'strconv.ParseUint: parsing "0x10": invalid syntax' })
  t.throws(() => parseUint('70000', 10, 16), { message: 'strconv.ParseUint: parsing "70000": value out of range' })
  t.equal(quote('a"b\n'), '"a\\"b\\n"')
})

t.test('image references', async (t) => {
  t.equal(withDefaultTag('nginx'), 'nginx:latest')
  t.equal(withDefaultTag('docker.io/library/nginx'), 'nginx:latest')
  t.equal(withDefaultTag('user/app:2'), 'user/app:2')
  t.equal(withDefaultTag('localhost:5000/a'), 'localhost:5000/a:latest')
  t.equal(withDefaultTag(`nginx@${DIGEST}`), `nginx@${DIGEST}`)
  t.equal(withDefaultTag('Not A Reference'), 'Not A Reference')
  t.equal(withDigest('nginx:1', DIGEST), `nginx:1@${DIGEST}`)
  t.equal(withDigest(`nginx@${DIGEST}`, 'sha256:other'), `nginx@${DIGEST}`)
  t.equal(displayImage(`nginx:1@${DIGEST}`), 'nginx:1')
  t.equal(displayImage(`nginx@${DIGEST}`), `nginx@${DIGEST}`)
})

t.test('quoted fields of a value may hold commas', async (t) => {
  t.same(parseCsvRecord('a,"b,c","d""e",'), ['a', 'b,c', 'd"e', ''])
  t.throws(() => parseCsvRecord('a,b"c'), { message: 'parse error on line 1, column 4: bare " in non-quoted-field' })
})

t.test('listings are in natural order', async (t) => {
  t.same(['web10', 'web2', 'web', 'Web1', 'web02', '1a'].sort(compareNatural), [
    '1a',
    'Web1',
    'web',
    'web2',
    'web02',
    'web10',
  ])
})

t.test('published ports are joined where both sides go on', async (t) => {
  const port = (published: number, target: number, protocol: 'tcp' | 'udp' = 'tcp') =>
    ({ PublishedPort: published, TargetPort: target, Protocol: protocol, PublishMode: 'ingress' }) as const
  t.equal(ingressPorts([port(81, 81), port(80, 80), port(82, 80)]), '*:80-81->80-81/tcp, *:82->80/tcp')
  t.equal(ingressPorts([port(80, 80), port(81, 80)]), '*:80-81->80/tcp')
  t.equal(ingressPorts([port(53, 53, 'udp'), port(53, 53)]), '*:53->53/tcp, *:53->53/udp')
  t.equal(ingressPorts([{ ...port(80, 80), PublishMode: 'host' }]), '')
})

t.test('addresses of daemons and of swarms', async (t) => {
  t.equal(normalizeHost('tcp://host', false), 'tcp://host:2375')
  t.equal(normalizeHost('host:1', true), 'tcp://host:1')
  t.equal(normalizeHost('tcp://host', true), 'tcp://host:2376')
  t.equal(normalizeHost('unix://', false), 'unix:///var/run/docker.sock')
  t.equal(normalizeHost('tcp://[::1]', false), 'tcp://[::1]:2375')
  t.throws(() => normalizeHost('ssh://user@host', false), {
    message: /does not speak ssh itself: run `ssh -NL .* user@host`/,
  })
  t.throws(() => normalizeHost('ftp://x', false), { message: 'invalid bind address format: ftp://x' })
  t.equal(parseListenAddress('eth0'), 'eth0:2377')
  t.equal(parseListenAddress(':1234'), '0.0.0.0:1234')
  t.equal(parseListenAddress('1.2.3.4:5'), '1.2.3.4:5')
  t.ok(cidrContains('10.0.0.0/8', '10.1.2.3'))
  t.notOk(cidrContains('10.0.0.0/8', '11.0.0.1'))
  t.notOk(cidrContains('10.0.0.0/8', '::1'))
})

t.test('--since is a time, an age or seconds', async (t) => {
  t.equal(sinceSeconds('', 0), undefined)
  t.equal(sinceSeconds('1700000000', 0), '1700000000')
  t.equal(sinceSeconds('2m', 1_000_000), '880.000000000')
  t.equal(sinceSeconds('1970-01-01T00:01:00Z', 0), '60.000000000')
  t.throws(() => sinceSeconds('soon', 0), { message: /failed to parse value as time or duration/ })
})

t.test('API versions are compared part by part', async (t) => {
  t.ok(compareVersions('1.9', '1.24') < 0)
  t.ok(compareVersions('1.51', '1.6') > 0)
  t.equal(compareVersions('1.41', '1.41'), 0)
})

t.test('a mistyped word is near a known one', async (t) => {
  t.same(closest('servcie', ['service', 'secret', 'swarm']), ['service'])
  t.same(closest('replica', ['replicas', 'restart-delay']), ['replicas'])
  t.same(closest('xyzzy', ['service', 'node']), [])
})

t.test('service inspect --pretty tells what the managers could not do, and of nothing else', async (t) => {
  const service = { ID: 'abc', Version: { Index: 1 }, CreatedAt: '', UpdatedAt: '', Spec: { Name: 'web' } }
  const Problem = { Code: 'PORT_IN_USE', Message: 'port 8080 on n2 is held by nginx', Since: '2026-11-21T10:00:00Z' }
  const nowMs = Date.parse('2026-11-21T10:05:00Z')
  t.match(
    prettyService({ ...service, Problem }, new Map(), nowMs),
    /\nProblem:\n Code:\t\tPORT_IN_USE\n Since:\t\t5 minutes ago\n Message:\tport 8080 on n2 is held by nginx\nPlacement:/,
  )
  t.notMatch(prettyService(service, new Map(), nowMs), /Problem/)
})

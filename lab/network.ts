/**
 * The lab's network: a switch (a bridge in a namespace of its own), one cable to each host and one to the client, and
 * nothing that leads to the machine or its uplink. Cables and pairs of hosts can be cut at the switch, where a cut is a
 * true black hole: no reset, no ICMP, only silence.
 */
import { existsSync } from 'node:fs'
import { clientAddress, clientNetns, type HostPlan, SUBNET_PREFIX_LENGTH, switchNetns } from './layout.ts'
import { must, run } from './run.ts'

const CLIENT_PORT = 'pc'
const portOf = (host: HostPlan): string => `p${host.number}`

export const netnsPath = (netns: string): string => `/run/netns/${netns}`

export async function listNetns(): Promise<string[]> {
  const lines = (await must(['ip', 'netns', 'list'])).split('\n')
  return lines.map((line) => line.split(' ')[0] ?? '').filter((name) => name !== '')
}

export async function createSwitch(labName: string): Promise<void> {
  const netns = switchNetns(labName)
  await must(['ip', 'netns', 'add', netns])
  await batch(netns, ['link set lo up', 'link add br0 type bridge', 'link set br0 up'])
  await must([...inNetns(netns), 'nft', '-f', '-'], {
    input: `table bridge lab {
  set cuts { type ifname . ifname; }
  chain forward { type filter hook forward priority 0; iifname . oifname @cuts drop; }
}
`,
  })
}

/** Lays the cable of a host that has none, into a fresh network namespace. */
export async function connectHost(labName: string, host: HostPlan): Promise<void> {
  await connect(labName, host.netns, portOf(host), host.address)
}

export async function connectClient(labName: string): Promise<void> {
  await connect(labName, clientNetns(labName), CLIENT_PORT, clientAddress(labName))
}

async function connect(labName: string, netns: string, port: string, address: string): Promise<void> {
  const sw = switchNetns(labName)
  await must(['ip', 'netns', 'add', netns])
  await batch(netns, [
    'link set lo up',
    `link add eth0 address ${macOf(address)} type veth peer name ${port} netns ${sw}`,
    `addr add ${address}/${SUBNET_PREFIX_LENGTH} dev eth0`,
    'link set eth0 up',
  ])
  await batch(sw, [`link set ${port} master br0`, `link set ${port} up`])
}

/** The same after each boot, as a network card's: peers keep it in their caches over a power loss. */
const macOf = (address: string): string =>
  `02:4c:${address
    .split('.')
    .map((octet) => Number(octet).toString(16).padStart(2, '0'))
    .join(':')}`

/** Pulls the cable out for good, at once: what dies on the host afterwards cannot say goodbye to its peers. */
export async function disconnectHost(labName: string, host: HostPlan): Promise<void> {
  await run(['ip', '-n', switchNetns(labName), 'link', 'delete', portOf(host)])
}

export async function deleteNetns(netns: string): Promise<void> {
  if (existsSync(netnsPath(netns))) await must(['ip', 'netns', 'delete', netns])
}

/** `up: false` is a cable pulled out: the host and all others lose each other. */
export async function setCable(labName: string, host: HostPlan, up: boolean): Promise<void> {
  await must(['ip', '-n', switchNetns(labName), 'link', 'set', portOf(host), up ? 'up' : 'down'])
}

/** Drops what `from` sends to `to` (one direction), or lets it pass again. Doing either twice is no error. */
export async function setPath(labName: string, from: HostPlan, to: HostPlan, open: boolean): Promise<void> {
  const verb = open ? 'delete' : 'add'
  const pair = `"${portOf(from)}" . "${portOf(to)}"`
  const result = await nft(labName, `${verb} element bridge lab cuts { ${pair} }\n`)
  if (result.code !== 0 && !(open && /No such file/.test(result.stderr))) {
    throw new Error(`nft ${verb} ${pair}: ${result.stderr.trim()}`)
  }
}

export async function healAll(labName: string, hosts: readonly HostPlan[]): Promise<void> {
  const result = await nft(labName, 'flush set bridge lab cuts\n')
  if (result.code !== 0) throw new Error(`nft flush: ${result.stderr.trim()}`)
  await batch(
    switchNetns(labName),
    hosts.map((host) => `link set ${portOf(host)} up`),
    { force: true }, // a host without power has no port
  )
}

/** What is cut now, as the kernel has it: 'n1' for a cable, 'n1>n2' for what n1 sends to n2. */
export async function listCuts(labName: string, hosts: readonly HostPlan[]): Promise<string[]> {
  if (!existsSync(netnsPath(switchNetns(labName)))) return [] // the machine was restarted: nothing is linked at all
  const links = JSON.parse(await must(['ip', '-n', switchNetns(labName), '-j', 'link', 'show'])) as {
    ifname: string
    flags: string[]
  }[]
  const down = new Set(links.filter((link) => !link.flags.includes('UP')).map((link) => link.ifname))
  const cuts = hosts.filter((host) => down.has(portOf(host))).map((host) => host.name)
  const listed = await must([...inNetns(switchNetns(labName)), 'nft', '-j', 'list', 'set', 'bridge', 'lab', 'cuts'])
  const { nftables } = JSON.parse(listed) as { nftables: { set?: { elem?: { concat: string[] }[] } }[] }
  const name = (port: string | undefined) => hosts.find((host) => portOf(host) === port)?.name ?? port
  for (const { set } of nftables) {
    for (const { concat } of set?.elem ?? []) cuts.push(`${name(concat[0])}>${name(concat[1])}`)
  }
  return cuts
}

/** The start of a command line that runs in `netns`; unlike `ip netns exec` it leaves /sys as it is. */
export const inNetns = (netns: string): string[] => ['nsenter', `--net=${netnsPath(netns)}`, '--']

async function batch(netns: string, commands: readonly string[], options: { force?: boolean } = {}): Promise<void> {
  const argv = ['ip', '-n', netns, ...(options.force ? ['-force'] : []), '-batch', '-']
  const result = await run(argv, { input: `${commands.join('\n')}\n` })
  if (result.code !== 0 && !options.force) throw new Error(`${argv.join(' ')}: ${result.stderr.trim()}`)
}

const nft = (labName: string, input: string) => run([...inNetns(switchNetns(labName)), 'nft', '-f', '-'], { input })

// A kernel that understands the lines of a plan, as strictly as the real one: it refuses what names a device that is not there, and
// takes away with a link what stands on it.

import {
  type BridgePort,
  type EntryMap,
  entryKey,
  type KernelEntry,
  type LinkMake,
  MAIN_TABLE,
} from '../../../src/overlay/kernel/entry.ts'
import type { Batch, Plan, Step } from '../../../src/overlay/kernel/plan.ts'

type Device = Extract<KernelEntry, { kind: 'device' }>

export class LineKernel {
  readonly #entries = new Map<string, KernelEntry>()

  /** Links that no plan makes. */
  constructor(given: readonly string[]) {
    for (const device of given) this.#put({ kind: 'device', device, mtu: 0, master: '', port: undefined, up: false })
  }

  get entries(): EntryMap {
    return this.#entries
  }

  perform({ adding, removing }: Pick<Plan, 'adding' | 'removing'>): void {
    for (const step of [...adding, ...removing]) this.#step(step)
  }

  /** As a foreign hand does: without regard to what stands on it. */
  break(key: string): void {
    const entry = this.#entries.get(key)
    if (entry?.kind === 'link') this.#deleteLink(entry.device)
    else if (entry && entry.kind !== 'device') this.#entries.delete(key)
  }

  #step(step: Step): void {
    for (const batch of step) for (const line of batch.lines) this.#line(batch, line)
  }

  #line({ tool, inHost }: Batch, line: string): void {
    const words = line.split(' ')
    const [object, verb] = words
    if (inHost && !line.startsWith('link add ')) throw new Error(`in the host's namespace: ${line}`)
    switch (`${tool === 'bridge' ? 'bridge ' : ''}${object} ${verb}`) {
      case 'link add':
        this.#addLink(words, line)
        break
      case 'link set':
        this.#setLink(words, line)
        break
      case 'link del':
        this.#device(words[2], line)
        this.#deleteLink(words[2] ?? '')
        break
      case 'addr replace':
      case 'addr del':
        this.#change(verb, line, { kind: 'address', device: after(words, 'dev'), address: words[2] ?? '' })
        break
      case 'neigh replace':
      case 'neigh del': {
        const [device, mac] = [after(words, 'dev'), after(words, 'lladdr')]
        this.#change(verb, line, { kind: 'neighbour', device, address: words[2] ?? '', mac })
        break
      }
      case 'bridge fdb replace':
      case 'bridge fdb del':
        this.#fdb(verb, words, line)
        break
      case 'route replace':
      case 'route del':
        this.#route(verb, words, line)
        break
      case 'rule add':
      case 'rule del':
        this.#rule(verb, words, line, tool === 'ip6' ? 6 : 4)
        break
      default:
        throw new Error(`not understood: ${line}`)
    }
  }

  #put(entry: KernelEntry): void {
    this.#entries.set(entryKey(entry), entry)
  }

  #device(device: string | undefined, line: string): Device {
    const found = this.#entries.get(`device ${device}`)
    if (found?.kind !== 'device') throw new Error(`no such device: ${line}`)
    return found
  }

  #change(verb: string | undefined, line: string, entry: KernelEntry): void {
    if (entry.kind !== 'rule' && entry.device !== '') this.#device(entry.device, line)
    const key = entryKey(entry)
    if (verb !== 'del') this.#put(entry)
    else if (!this.#entries.delete(key)) throw new Error(`not there: ${line}`)
  }

  #addLink(words: readonly string[], line: string): void {
    const name = line.includes(' peer name ') ? after(words, 'name') : (words[2] ?? '')
    if (this.#entries.has(`link ${name}`)) throw new Error(`is there already: ${line}`)
    const make = madeBy(words, line)
    this.#put({ kind: 'link', device: name, make })
    const mtu = Number(after(words, 'mtu'))
    this.#put({ kind: 'device', device: name, mtu, master: '', port: undefined, up: false })
  }

  #setLink(words: readonly string[], line: string): void {
    const device = this.#device(words[2], line)
    if (line.includes(' type bridge_slave ')) {
      if (device.master === '') throw new Error(`has no master: ${line}`)
      const port: BridgePort = {
        hairpin: after(words, 'hairpin') === 'on',
        isolated: after(words, 'isolated') === 'on',
      }
      this.#put({ ...device, port })
      return
    }
    const [mtu, master] = [after(words, 'mtu'), after(words, 'master')]
    if (master !== '') this.#device(master, line)
    this.#put({
      ...device,
      mtu: mtu === '' ? device.mtu : Number(mtu),
      master: master === '' ? device.master : master,
      up: words.at(-1) === 'up' || (words.at(-1) !== 'down' && device.up),
    })
  }

  #deleteLink(name: string): void {
    for (const [key, entry] of this.#entries) {
      if (entry.kind === 'device' && entry.master === name) this.#put({ ...entry, master: '', port: undefined })
      else if (entry.kind === 'bridge-fdb' && entry.bridge === name) this.#entries.delete(key)
      else if (entry.kind !== 'rule' && entry.device === name) this.#entries.delete(key)
    }
  }

  #fdb(verb: string | undefined, words: readonly string[], line: string): void {
    const [mac, device] = [words[2] ?? '', after(words, 'dev')]
    if (words.includes('self')) {
      const [target, port] = [after(words, 'dst'), Number(after(words, 'port'))]
      this.#change(verb, line, { kind: 'tunnel-fdb', device, mac, target, port })
      return
    }
    const { master } = this.#device(device, line)
    if (master === '') throw new Error(`has no master: ${line}`)
    this.#change(verb, line, { kind: 'bridge-fdb', bridge: master, mac, device })
  }

  #route(verb: string | undefined, words: readonly string[], line: string): void {
    const to = words[2] ?? ''
    const via = after(words, 'via')
    const table = after(words, 'table')
    this.#change(verb, line, {
      kind: 'route',
      family: to.includes(':') ? 6 : 4,
      table: table === '' ? MAIN_TABLE : Number(table),
      destination: to === '::/0' ? 'default' : to,
      via,
      device: after(words, 'dev'),
    })
  }

  #rule(verb: string | undefined, words: readonly string[], line: string, family: 4 | 6): void {
    const [mark, mask] = after(words, 'fwmark').split('/').map(Number)
    const priority = Number(after(words, 'pref'))
    if (verb === 'add' && this.#entries.has(`rule ${family} ${priority}`)) throw new Error(`a second rule: ${line}`)
    const table = after(words, 'lookup') === 'main' ? MAIN_TABLE : Number(after(words, 'lookup'))
    this.#change(verb, line, { kind: 'rule', family, priority, mark: mark ?? 0, mask: mask ?? 0, table })
  }
}

function madeBy(words: readonly string[], line: string): LinkMake {
  switch (after(words, 'type')) {
    case 'bridge':
      return { kind: 'bridge', mac: after(words, 'address') }
    case 'vxlan':
      return {
        kind: 'vxlan',
        vni: Number(after(words, 'id')),
        local: after(words, 'local'),
        port: Number(after(words, 'dstport')),
        proxy: words.includes('proxy'),
        mac: after(words, 'address'),
      }
    case 'veth':
      return { kind: 'container-port', peer: words[2] ?? '' }
    default:
      throw new Error(`not understood: ${line}`)
  }
}

/** The word that follows; empty: none. */
function after(words: readonly string[], word: string): string {
  const at = words.indexOf(word)
  return at < 0 ? '' : (words[at + 1] ?? '')
}

// --mount: "type=volume,source=data,target=/data,volume-opt=size=1g".

import type { MountSpec } from '../../api/spec.ts'
import { parseCsvRecord } from '../csv.ts'
import { cut, parseBool, parseOctal, quote, ValueError } from '../strconv.ts'
import { parseBytes } from '../units.ts'
import { absoluteSource } from './values.ts'

type Draft<T> = { -readonly [K in keyof T]: T[K] }

const SWITCHES = new Set(['readonly', 'ro', 'volume-nocopy', 'bind-nonrecursive', 'bind-create-src'])

/** @throws {ValueError} with Docker's text. */
export function parseMount(text: string): MountSpec {
  const value = text.trim()
  if (value === '') throw new ValueError('value is empty')
  const mount: Draft<MountSpec> = { Type: 'volume' }
  const bind: Draft<NonNullable<MountSpec['BindOptions']>> = {}
  const tmpfs: Draft<NonNullable<MountSpec['TmpfsOptions']>> = {}
  const volume: { NoCopy?: boolean; Subpath?: string; driver?: string } = {}
  const volumeLabels: Record<string, string> = {}
  const volumeOptions: Record<string, string> = {}
  let image: string | undefined
  const used = new Set<string>()

  for (const field of parseCsvRecord(value)) {
    const { before, after, found } = cut(field, '=')
    checkSpaces(field, before, after, found)
    const key = before.toLowerCase()
    if (!found && !SWITCHES.has(key)) throw new ValueError(`invalid field '${field}' must be a key=value pair`)
    used.add(/^(volume|bind|tmpfs|image)-/.exec(key)?.[1] ?? '')
    switch (key) {
      case 'type':
        mount.Type = after.toLowerCase() as NonNullable<MountSpec['Type']>
        break
      case 'source':
      case 'src':
        mount.Source = absoluteSource(after)
        break
      case 'target':
      case 'dst':
      case 'destination':
        mount.Target = after
        break
      case 'readonly':
      case 'ro':
        mount.ReadOnly = !found || switchValue(key, after)
        break
      case 'consistency':
        mount.Consistency = after.toLowerCase()
        break
      case 'bind-propagation':
        bind.Propagation = after.toLowerCase()
        break
      case 'bind-nonrecursive':
        bind.NonRecursive = !found || switchValue(key, after)
        break
      case 'bind-create-src':
        bind.CreateMountpoint = !found || switchValue(key, after)
        break
      case 'bind-recursive':
        setRecursive(bind, after)
        break
      case 'volume-subpath':
        volume.Subpath = after
        break
      case 'volume-nocopy':
        volume.NoCopy = !found || switchValue(key, after)
        break
      case 'volume-label':
        setPair(volumeLabels, after)
        break
      case 'volume-driver':
        volume.driver = after
        break
      case 'volume-opt':
        setPair(volumeOptions, after)
        break
      case 'image-subpath':
        image = after
        break
      case 'tmpfs-size':
        tmpfs.SizeBytes = numberValue(key, after, parseBytes)
        break
      case 'tmpfs-mode':
        tmpfs.Mode = numberValue(key, after, parseOctal)
        break
      default:
        throw new ValueError(`unexpected key '${key}' in '${field}'`)
    }
  }

  if (!mount.Target) throw new ValueError('target is required')
  for (const type of ['volume', 'image', 'bind', 'tmpfs'] as const) {
    if (used.has(type) && mount.Type !== type) {
      throw new ValueError(`cannot mix '${type}-*' options with mount type '${mount.Type}'`)
    }
  }
  checkRecursive(mount, bind)
  return {
    ...mount,
    // a mode that asks for nothing leaves no trace, but the options were named: Docker sends them empty
    ...(used.has('bind') && (Object.keys(bind).length > 0 || mentions(value, 'bind-propagation'))
      ? { BindOptions: bind }
      : {}),
    ...(used.has('tmpfs') ? { TmpfsOptions: tmpfs } : {}),
    ...(image === undefined ? {} : { ImageOptions: { Subpath: image } }),
    ...(used.has('volume')
      ? {
          VolumeOptions: {
            ...(volume.NoCopy ? { NoCopy: true } : {}),
            ...(volume.Subpath === undefined ? {} : { Subpath: volume.Subpath }),
            Labels: volumeLabels,
            DriverConfig: {
              ...(volume.driver === undefined ? {} : { Name: volume.driver }),
              ...(Object.keys(volumeOptions).length > 0 ? { Options: volumeOptions } : {}),
            },
          },
        }
      : {}),
  }
}

const mentions = (value: string, key: string) => value.toLowerCase().includes(key)

function checkSpaces(field: string, key: string, value: string, hasValue: boolean): void {
  if (key.trim() !== key) {
    throw new ValueError(`invalid option '${key.trim()}' in '${field}': option should not have whitespace`)
  }
  if (!hasValue) return
  if (value.trim() === '') throw new ValueError(`invalid value for '${key}': value is empty`)
  if (value.trim() !== value) {
    throw new ValueError(`invalid value for '${key}' in '${field}': value should not have whitespace`)
  }
}

function switchValue(key: string, text: string): boolean {
  try {
    return parseBool(text)
  } catch {
    throw new ValueError(
      `invalid value for '${key}': invalid boolean value (${quote(text)}): must be one of "true", "1", "false", or "0" (default "true")`,
    )
  }
}

function numberValue(key: string, text: string, parse: (text: string) => number): number {
  try {
    return parse(text)
  } catch {
    throw new ValueError(`invalid value for ${key}: ${text}`)
  }
}

function setPair(target: Record<string, string>, text: string): void {
  const { before, after } = cut(text, '=')
  if (before !== '') target[before] = after
}

function setRecursive(bind: Draft<NonNullable<MountSpec['BindOptions']>>, value: string): void {
  if (value === 'disabled') bind.NonRecursive = true
  else if (value === 'writable') bind.ReadOnlyNonRecursive = true
  else if (value === 'readonly') bind.ReadOnlyForceRecursive = true
  else if (value !== 'enabled') {
    throw new ValueError(
      `invalid value for bind-recursive: ${value} (must be "enabled", "disabled", "writable", or "readonly")`,
    )
  }
}

function checkRecursive(mount: MountSpec, bind: NonNullable<MountSpec['BindOptions']>): void {
  const needs = (option: string, other: string) =>
    new ValueError(`option 'bind-recursive=${option}' requires '${other}' to be specified in conjunction`)
  if (bind.ReadOnlyNonRecursive && !mount.ReadOnly) throw needs('writable', 'readonly')
  if (!bind.ReadOnlyForceRecursive) return
  if (!mount.ReadOnly) throw needs('readonly', 'readonly')
  if (bind.Propagation !== 'rprivate') throw needs('readonly', 'bind-propagation=rprivate')
}

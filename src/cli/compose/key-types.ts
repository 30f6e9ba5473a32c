// Types of values that many keys of a compose file share.

import { any, castable, choice, dict, list, map, type Shape, scalar } from './shape.ts'

export const text = scalar('string')
export const bool = castable('boolean')
export const integer = castable('integer')
export const number = castable('number')
export const duration: Shape = { kind: 'scalar', types: ['string'], format: 'duration' }
export const numberOrText = scalar('number', 'string')
export const uniqueTexts = list(text, true)
export const textOrList = choice(text, uniqueTexts)
export const pairs = choice(dict(scalar('string', 'number', 'boolean', 'null'), /.+/, true), uniqueTexts)
export const command = choice(scalar('string', 'null'), list(text))
export const NAME = /^[a-zA-Z0-9._-]+$/
export const driverOptions = dict(scalar('string', 'number'))
/** Most mappings of the Specification take x-… keys. */
export const extensible = { hasExtensions: true } as const
export const nullable = { hasExtensions: true, isNullable: true } as const

export const fileReference = list(
  choice(text, map({ source: text, target: text, uid: text, gid: text, mode: numberOrText }, extensible)),
)

export const ulimits = dict(
  choice(integer, map({ hard: integer, soft: integer }, { ...extensible, required: ['soft', 'hard'] })),
  /^[a-z]+$/,
)

export const hosts = choice(dict(choice(scalar('string', 'number', 'null'), list(text)), /.+/, true), uniqueTexts)

const deviceKeys = { count: scalar('string', 'integer'), device_ids: uniqueTexts, driver: text, options: pairs }

/** A reservation of devices; in `gpus` the capabilities may be left out. */
export const deviceRequests = list(
  map({ capabilities: uniqueTexts, ...deviceKeys }, { ...extensible, required: ['capabilities'] }),
)
export const gpus = choice(
  { kind: 'scalar', types: ['string'], oneOf: ['all'] },
  list(map({ capabilities: uniqueTexts, ...deviceKeys }, extensible)),
)

/** What is refused or left out whole needs no shape of its own. */
export const whatever = any

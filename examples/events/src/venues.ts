import { Body as RequestBody, Controller, Get, Injectable, Post } from '@nestjs/common';
import { Body } from './body';
import { Database } from './database';

interface Venue {
  id: number;
  name: string;
  city: string;
  capacity: number;
}

@Injectable()
export class Venues {
  constructor(private readonly db: Database) {}

  list(): Promise<Venue[]> {
    return this.db.query<Venue>('SELECT id, name, city, capacity FROM venues ORDER BY id LIMIT 100');
  }

  async create(venue: Omit<Venue, 'id'>): Promise<Venue | undefined> {
    const [row] = await this.db.query<Venue>(
      'INSERT INTO venues (name, city, capacity) VALUES ($1, $2, $3) RETURNING id, name, city, capacity',
      [venue.name, venue.city, venue.capacity],
    );
    return row;
  }
}

@Controller('venues')
export class VenuesController {
  constructor(private readonly venues: Venues) {}

  @Get()
  list(): Promise<Venue[]> {
    return this.venues.list();
  }

  @Post()
  create(@RequestBody() given: unknown): Promise<Venue | undefined> {
    const body = new Body(given);
    const venue = { name: body.text('name', 200), city: body.text('city', 100), capacity: body.integer('capacity') };
    body.done();
    return this.venues.create(venue);
  }
}

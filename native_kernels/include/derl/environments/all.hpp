// Every environment there is: a new one is a header beside this one and a line in each list here.
#pragma once

#include <derl/environments/acrobot.hpp>
#include <derl/environments/cart_pole.hpp>
#include <derl/environments/mountain_car.hpp>
#include <derl/environments/mountain_car_continuous.hpp>
#include <derl/environments/pendulum.hpp>

#define DERL_ENVIRONMENTS(X) \
    X(CartPole)              \
    X(Pendulum)              \
    X(Acrobot)               \
    X(MountainCar)           \
    X(MountainCarContinuous)
